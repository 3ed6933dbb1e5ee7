/**
 * Ready-made steps for bundle hooks: tokenizing, detection post-processing and the way between tensors and
 * typed arrays. Pure functions that import nothing outside this folder; a hook worker hands them to hook
 * files as the global `helpers`, declared for authors in `api.d.ts`.
 */

import { decodeBoxes, deltasMatrix, featureChw, generateAnchors, objectnessFlat } from "./boxes.ts";
import {
  encodePair,
  encodePairBatch,
  encodeSingle,
  encodeTextBatch,
  padBatch,
  seqBucket,
} from "./encoding.ts";
import { batchedNms, nms } from "./nms.ts";
import { argmax, sigmoid, softmax } from "./numeric.ts";
import { assignLevel, assignLevels, fastRcnnInference, selectRpnProposals } from "./rcnn.ts";
import { roiAlign, roiAlignInto } from "./roi_align.ts";
import {
  asFloat32,
  asFloat64,
  asInt32,
  asInt64,
  bytesOf,
  findTensor,
  makeTensor,
  stringsOf,
  valuesOf,
} from "./tensors.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { wireText, wireTexts } from "./wire_text.ts";

/** What hook files see as `helpers`; frozen, so that a hook cannot change what another one calls. */
export const helpers = Object.freeze({
  tensor: Object.freeze({
    findTensor,
    makeTensor,
    valuesOf,
    asFloat32,
    asFloat64,
    asInt32,
    asInt64,
    stringsOf,
    bytesOf,
  }),
  text: Object.freeze({
    loadTokenizer,
    wireText,
    wireTexts,
    encodeSingle,
    encodePair,
    seqBucket,
    padBatch,
    encodeTextBatch,
    encodePairBatch,
  }),
  numeric: Object.freeze({ sigmoid, softmax, argmax }),
  detection: Object.freeze({
    nms,
    batchedNms,
    decodeBoxes,
    generateAnchors,
    objectnessFlat,
    deltasMatrix,
    featureChw,
    roiAlign,
    roiAlignInto,
    assignLevel,
    assignLevels,
    selectRpnProposals,
    fastRcnnInference,
  }),
});
