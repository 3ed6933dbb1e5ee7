import { testBackendContract } from "../../src/runtime/backend_contract.ts";
import { ADD_ROW, openCpu } from "./subject.ts";

testBackendContract("PJRT on the CPU", { open: openCpu, code: ADD_ROW });
