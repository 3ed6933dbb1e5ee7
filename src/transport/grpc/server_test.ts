import { testServerContract } from "../server_contract.ts";
import { startNativeServer } from "./mod.ts";

testServerContract("native", startNativeServer);
