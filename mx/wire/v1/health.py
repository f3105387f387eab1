# Written by protos/generate.py from health.proto; do not edit.
from __future__ import annotations

from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\x0chealth.proto\x12\x14model_express.health"\x0f\n\rHealthRequest"A\n\x0eHealthR'
    b'esponse\x12\x0f\n\x07version\x18\x01 \x01(\t\x12\x0e\n\x06status\x18\x02 \x01(\t\x12\x0e\n\x06uptime\x18\x03 \x01(\x042g\n\rHeal'
    b'thService\x12V\n\tGetHealth\x12#.model_express.health.HealthRequest\x1a$.mo'
    b'del_express.health.HealthResponseb\x06proto3'
)

HealthRequest = message(DESCRIPTOR, "HealthRequest")
HealthResponse = message(DESCRIPTOR, "HealthResponse")

HealthService_NAME = DESCRIPTOR.services_by_name["HealthService"].full_name
HealthServiceStub = stub_class(DESCRIPTOR, "HealthService")
HealthServiceAsyncStub = HealthServiceStub


def HealthService_handler(implementation):
    return service_handler(DESCRIPTOR, "HealthService", implementation)
