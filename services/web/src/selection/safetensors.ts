// Reading safetensors: a length, a JSON header, the arrays. Nothing is executed.

export type Tensor = Float32Array | Float64Array | Uint8Array | Int8Array | Int16Array | Uint32Array;

export interface Arrays {
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Tensor }>;
  readonly header: Record<string, unknown>;
}

interface Place {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const WIDTH: Record<string, number> = { F64: 8, F32: 4, F16: 2, U8: 1, I8: 1, I16: 2, U32: 4 };

/** Reads a file and the JSON under `xpert` in its metadata. Throws where it is cut or of another format. */
export function readSafetensors(buffer: ArrayBuffer, format: string): Arrays {
  try {
    return read(buffer, format);
  } catch (error) {
    throw new Error(`The server sent no usable ${format} file: ${error instanceof Error ? error.message : String(error)}.`);
  }
}

function read(buffer: ArrayBuffer, format: string): Arrays {
  const view = new DataView(buffer);
  const size = Number(view.getBigUint64(0, true));
  const text = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, size));
  const { __metadata__: metadata, ...places } = JSON.parse(text) as Record<string, Place> & { __metadata__?: unknown };
  const header = JSON.parse((metadata as Record<string, string> | undefined)?.["xpert"] ?? "{}") as Record<string, unknown>;
  if (header["format"] !== format) throw new Error(`its format is ${String(header["format"])}`);
  if (header["version"] !== 1) throw new Error(`its version ${String(header["version"])} is not known to this page`);
  const tensors = new Map(
    Object.entries(places).map(([name, place]) => [name, { shape: place.shape, data: tensor(buffer, 8 + size, place) }]),
  );
  return { tensors, header };
}

function tensor(buffer: ArrayBuffer, start: number, place: Place): Tensor {
  const [from, to] = place.data_offsets;
  const n = place.shape.reduce((a, b) => a * b, 1);
  const width = WIDTH[place.dtype];
  if (width === undefined) throw new Error(`its type ${place.dtype} is not known to this page`);
  if (to - from !== n * width || start + to > buffer.byteLength) throw new Error("it is cut");
  const bytes = buffer.slice(start + from, start + to);
  switch (place.dtype) {
    case "F64":
      return new Float64Array(bytes);
    case "F32":
      return new Float32Array(bytes);
    case "F16":
      return Float32Array.from(new Uint16Array(bytes), half);
    case "I16":
      return new Int16Array(bytes);
    case "U32":
      return new Uint32Array(bytes);
    case "I8":
      return new Int8Array(bytes);
    default:
      return new Uint8Array(bytes);
  }
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
