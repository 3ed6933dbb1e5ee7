/** Which device a worker has, for the label on all of its series. */

/**
 * The `gpu` label: which physical device this is, from `CUDA_VISIBLE_DEVICES` and the ordinal among the
 * visible ones. The only entry of that list, else the one at the ordinal (none there: empty); without
 * the variable the ordinal itself.
 */
export function gpuLabel(visibleDevices: string | undefined, deviceOrdinal: number): string {
  if (visibleDevices === undefined) return String(deviceOrdinal);
  const devices = visibleDevices.split(",").map((device) => device.trim()).filter((d) => d !== "");
  if (devices.length === 0) return String(deviceOrdinal);
  return devices.length === 1 ? devices[0]! : devices[deviceOrdinal] ?? "";
}
