/**
 * Weights in two tiers: host memory, private or shared by the workers of a node, and the device, under a
 * budget. This folder decides what is where and moves it. Who runs when is decided elsewhere, and told
 * here only as "these are wanted" and "these are in use".
 */
export { type Budget, budgetTable, solveBudget } from "./budget.ts";
export { type HostCopy, HostStore, type HostStoreOptions } from "./host_store.ts";
export { ModelWeights } from "./model_weights.ts";
export { acquireRegion, regionKey, regionName, sweepRegions } from "./shared_region.ts";
export {
  type Arena,
  type AttachRequest,
  type Compaction,
  WeightStore,
  type WeightStoreOptions,
} from "./weight_store.ts";
export type { WeightUse } from "./weight_unit.ts";
export { MemoryRoom, type MemoryRoomOptions } from "./memory_room.ts";
