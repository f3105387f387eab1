# Written by protos/generate.py from mx/peer/v1/peer.proto; do not edit.
from __future__ import annotations

from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\x15mx/peer/v1/peer.proto\x12\nmx.peer.v1"|\n\x13OpenTransferRequest\x12\x11\n\tso'
    b'urce_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t\x12\x15\n\rlayout_digest\x18\x03 \x01(\t\x12\x15\n\rsegme'
    b'nt_bytes\x18\x04 \x01(\x04\x12\x11\n\ttarget_id\x18\x05 \x01(\t"\xa7\x03\n\x11OpenTransferReply\x12\x11\n\tsourc'
    b'e_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t\x12\x13\n\x0bworker_rank\x18\x03 \x01(\r\x12\x12\n\ngeneration'
    b'\x18\x04 \x01(\t\x12\x10\n\x08lease_id\x18\x05 \x01(\t\x12\x0f\n\x07lease_s\x18\x06 \x01(\r\x12\x12\n\nagent_name\x18\x07 \x01(\t\x12\x16\n'
    b'\x0eagent_metadata\x18\x08 \x01(\x0c\x12\x15\n\rlayout_digest\x18\t \x01(\t\x12\x13\n\x0bsame_layout\x18\n \x01('
    b'\x08\x12\r\n\x05addrs\x18\x0b \x01(\x0c\x12\r\n\x05sizes\x18\x0c \x01(\x0c\x12\r\n\x05names\x18\r \x01(\t\x12\x0e\n\x06dtypes\x18\x0e \x03(\t\x12\x13'
    b'\n\x0bdtype_index\x18\x0f \x01(\x0c\x12\x11\n\tdevice_id\x18\x10 \x01(\r\x12\x13\n\x0bhost_memory\x18\x11 \x01(\x08\x12\x13\n\x0bd'
    b'igest_kind\x18\x12 \x01(\t\x12\x13\n\x0baccelerator\x18\x13 \x01(\t\x12\x13\n\x0btotal_bytes\x18\x14 \x01(\x04\x12\x0f\n\x07re'
    b'gions\x18\x15 \x01(\x0c"s\n\x0eDigestsRequest\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x12\n\ngeneration\x18\x02'
    b' \x01(\t\x12\x15\n\rsegment_bytes\x18\x03 \x01(\x04\x12\x15\n\rfirst_segment\x18\x04 \x01(\r\x12\x0c\n\x04skip\x18\x05 \x01(\x0c'
    b'"D\n\x0cDigestsReply\x12\x15\n\rfirst_segment\x18\x01 \x01(\r\x12\x0f\n\x07digests\x18\x02 \x01(\x0c\x12\x0c\n\x04last'
    b'\x18\x03 \x01(\x08"8\n\x11RenewLeaseRequest\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x10\n\x08lease_id\x18\x02 \x01(\t'
    b'""\n\x0fRenewLeaseReply\x12\x0f\n\x07lease_s\x18\x01 \x01(\r"o\n\x14CloseTransferRequest\x12\x11\n\t'
    b'source_id\x18\x01 \x01(\t\x12\x10\n\x08lease_id\x18\x02 \x01(\t\x12\x0e\n\x06failed\x18\x03 \x01(\x08\x12\x0e\n\x06reason\x18\x04 \x01('
    b'\t\x12\x12\n\nbytes_read\x18\x05 \x01(\x04"\x14\n\x12CloseTransferReply"\x11\n\x0fGetStateRequest"\x88'
    b'\x01\n\rGetStateReply\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t\x12\x12\n\ngenera'
    b'tion\x18\x03 \x01(\t\x12\x10\n\x08draining\x18\x04 \x01(\x08\x12\x15\n\ractive_leases\x18\x05 \x01(\r\x12\x14\n\x0cbytes_ser'
    b'ved\x18\x06 \x01(\x042\x84\x03\n\x0bPeerService\x12N\n\x0cOpenTransfer\x12\x1f.mx.peer.v1.OpenTrans'
    b'ferRequest\x1a\x1d.mx.peer.v1.OpenTransferReply\x12D\n\nGetDigests\x12\x1a.mx.pee'
    b'r.v1.DigestsRequest\x1a\x18.mx.peer.v1.DigestsReply0\x01\x12H\n\nRenewLease\x12\x1d.'
    b'mx.peer.v1.RenewLeaseRequest\x1a\x1b.mx.peer.v1.RenewLeaseReply\x12Q\n\rClo'
    b'seTransfer\x12 .mx.peer.v1.CloseTransferRequest\x1a\x1e.mx.peer.v1.CloseT'
    b'ransferReply\x12B\n\x08GetState\x12\x1b.mx.peer.v1.GetStateRequest\x1a\x19.mx.peer.'
    b'v1.GetStateReplyb\x06proto3'
)

OpenTransferRequest = message(DESCRIPTOR, "OpenTransferRequest")
OpenTransferReply = message(DESCRIPTOR, "OpenTransferReply")
DigestsRequest = message(DESCRIPTOR, "DigestsRequest")
DigestsReply = message(DESCRIPTOR, "DigestsReply")
RenewLeaseRequest = message(DESCRIPTOR, "RenewLeaseRequest")
RenewLeaseReply = message(DESCRIPTOR, "RenewLeaseReply")
CloseTransferRequest = message(DESCRIPTOR, "CloseTransferRequest")
CloseTransferReply = message(DESCRIPTOR, "CloseTransferReply")
GetStateRequest = message(DESCRIPTOR, "GetStateRequest")
GetStateReply = message(DESCRIPTOR, "GetStateReply")

PeerService_NAME = DESCRIPTOR.services_by_name["PeerService"].full_name
PeerServiceStub = stub_class(DESCRIPTOR, "PeerService")
PeerServiceAsyncStub = PeerServiceStub


def PeerService_handler(implementation):
    return service_handler(DESCRIPTOR, "PeerService", implementation)
