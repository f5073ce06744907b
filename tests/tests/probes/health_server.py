"""A gRPC server with the standard health service: Google's own runtime and its own encoding of the messages, made from the
standard's text. Says its ports, then serves until it is killed.

Arguments: a server's certificate, its key, and the authority that clients of the last port have to be signed by (PEM files)."""

import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
file = descriptor_pb2.FileDescriptorProto(name="health.proto", package="grpc.health.v1", syntax="proto3")
request = file.message_type.add(name="HealthCheckRequest")
request.field.add(name="service", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
response = file.message_type.add(name="HealthCheckResponse")
serving = response.enum_type.add(name="ServingStatus")
for number, name in enumerate(["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]):
    serving.value.add(name=name, number=number)
response.field.add(name="status", number=1, type=FIELD.TYPE_ENUM, label=FIELD.LABEL_OPTIONAL,
                   type_name=".grpc.health.v1.HealthCheckResponse.ServingStatus")
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
factory = message_factory.MessageFactory(pool)
Request, Response = (factory.GetPrototype(pool.FindMessageTypeByName("grpc.health.v1." + name))
                     for name in ("HealthCheckRequest", "HealthCheckResponse"))

HEALTH = {"": 1, "guarded": 1, "shop.v1.Orders": 1, "sick": 2, "unknown": 0, "new": 3}


def check(request, context):
    if request.service == "guarded":
        metadata = dict(context.invocation_metadata())
        token = metadata.get("authorization", "no token, naïve 100%")
        if token != "Bearer right" or metadata.get("x-tenant") != "shop":
            # As services do that ought not to.
            context.abort(grpc.StatusCode.UNAUTHENTICATED, token)
    if request.service not in HEALTH:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return Response(status=HEALTH[request.service])


handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
    "Check": grpc.unary_unary_rpc_method_handler(
        check, request_deserializer=Request.FromString, response_serializer=Response.SerializeToString)})


def read(path):
    with open(path, "rb") as file:
        return file.read()


pair, authority = [(read(sys.argv[2]), read(sys.argv[1]))], read(sys.argv[3])
ports, servers = [], []
for handlers, credentials in [
        ((handler,), None),
        ((), None),
        ((handler,), grpc.ssl_server_credentials(pair)),
        ((handler,), grpc.ssl_server_credentials(pair, authority, require_client_auth=True))]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=handlers)
    ports.append(server.add_secure_port("127.0.0.1:0", credentials) if credentials
                 else server.add_insecure_port("127.0.0.1:0"))
    server.start()
    servers.append(server)
print(*ports, flush=True)
for server in servers:
    server.wait_for_termination()
