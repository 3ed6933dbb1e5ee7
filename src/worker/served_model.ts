import type { LoadedModel } from "./loaded_model.ts";
import type { MetaModel } from "./meta_model.ts";
import type { ModelRegistry } from "./model_registry.ts";

/** Whatever answers to a model name. */
export type ServedModel = LoadedModel | MetaModel;

/** Regular models that can infer. */
export function* regularModels(registry: ModelRegistry<ServedModel>): Generator<LoadedModel> {
  for (const model of registry.models()) if (model.kind === "model") yield model;
}

/** Names that metas call: still inferable, but not listed. */
export function hiddenModels(registry: ModelRegistry<ServedModel>): Set<string> {
  const hidden = new Set<string>();
  for (const model of registry.models()) {
    if (model.kind === "meta") { for (const name of model.calls) hidden.add(name); }
  }
  return hidden;
}
