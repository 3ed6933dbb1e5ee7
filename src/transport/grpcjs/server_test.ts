import { testServerContract } from "../server_contract.ts";
import { startGrpcJsServer } from "./mod.ts";

testServerContract("grpc-js", startGrpcJsServer);
