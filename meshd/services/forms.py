"""Forms: computing them here and wherever it is quicker, for programs at bend's doors and for peers; and blobs."""

from __future__ import annotations

from forms.blobs import FormBlobs, nearest_first
from forms.call_message import PROTOCOL as FORM_PROTOCOL
from gossip.belief import Believe
from meshd.bender import Bender
from meshd.bending import Bending, Surroundings, make_bending
from meshd.blob_commands import BlobCommands
from meshd.footing import Footing
from meshd.form_commands import FormCommands
from meshd.services.service import Service, Works
from transport.blob_message import PROTOCOL as BLOB_PROTOCOL
from transport.blobs import Blobs


def make_blobs(footing: Footing) -> Blobs:
    """The blobs that this node keeps, with the files of its models among them."""
    return Blobs(footing.transport, footing.offering.pantry.lending.store)


def make_forms(footing: Footing, blobs: Blobs, believe: Believe) -> Bending:
    """A client asks no node for a blob, for none would answer; members may ask a client."""
    transport = footing.transport
    kitchen = footing.offering.pantry.kitchen
    around = Surroundings(
        memory=footing.offering.memory,
        transport=transport,
        view=footing.view,
        folder=footing.directory.blobs,
        blobs=FormBlobs(blobs, lambda: () if footing.is_client else nearest_first(transport.links())),
        foreign=footing.offering.bend_workers,
        displace=kitchen.residence.make_room if kitchen.config.displace else None,
        believe=believe,
    )
    return make_bending(around)


def lending(blobs: Blobs, bending: Bending) -> Service:
    """Blobs, for peers and for this host's owner. Its block is where those on their way are pulled."""
    return Service(
        "blobs",
        streams={BLOB_PROTOCOL: blobs.serve},
        commands=BlobCommands(bending.blobs).table(),
        block=blobs,
    )


def computing(footing: Footing, bending: Bending, bender: Bender) -> Service:
    """Forms. A client computes them for nobody else."""
    bend, is_client = footing.listeners.bend, footing.is_client

    def works() -> Works:
        doors = bend.works(bending.operations, bending.blobs) if bend is not None else {}
        return doors | bending.works(None if is_client else footing.gossip.publish)

    calls = FormCommands(bender, footing.view)
    streams = {} if is_client else {FORM_PROTOCOL: bending.door.serve}
    return Service("forms", works=works, streams=streams, commands=calls.table(), routes=calls.routes())
