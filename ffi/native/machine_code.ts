/**
 * The few machine instructions that Deno has no call for, position-independent, as GNU as assembles them
 * for x86-64 (System V ABI). Each routine's source stands beside its bytes; `machine_code_test.ts`
 * assembles it again where an assembler is installed.
 */

/** Where the text begins in the image, and where the guard's state lies. */
export const TEXT_OFFSET = 0x400;
export const STATE_OFFSET = 0x2000;

/** Layout of the guard's state: see `bus_guard.ts`. */
export const STATE = {
  /** Handler to pass other faults on to: 0 and 1 are SIG_DFL and SIG_IGN. */
  previous: 0,
  /** How many slots the handler looks through. */
  count: 8,
  /** A zeroed `struct kernel_sigaction`: the default action. */
  defaultAction: 16,
  slots: 48,
} as const;

/** A slot: first address, address after the last, and whether its memory has been replaced. */
export const SLOT_BYTES = 24;
export const MAX_SLOTS = 4096;

export interface Routine {
  readonly name: string;
  /** Offset in the text. */
  readonly offset: number;
  /** Intel syntax, for GNU as. */
  readonly source: string;
  readonly bytes: string;
}

/** `address(p)` returns `p`: what Deno passes for a buffer, as a number. */
const ADDRESS: Routine = {
  name: "reactant_address",
  offset: 0,
  source: `
    endbr64
    mov rax, rdi
    ret`,
  bytes: "f30f1efa 4889f8 c3",
};

/** `call(f, a)` returns `f(a)`. */
const CALL: Routine = {
  name: "reactant_call",
  offset: 0x10,
  source: `
    endbr64
    mov rax, rdi
    mov rdi, rsi
    jmp rax`,
  bytes: "f30f1efa 4889f8 4889f7 ffe0",
};

/**
 * A SIGBUS handler, `void (int, siginfo_t *, void *)`. A fault of the kernel's making (`si_code` above 0)
 * at an address inside a slot marks the slot and puts zeroed memory of this process from the faulting page
 * to the slot's end; the instruction that faulted then runs again. Anything else goes to the previous
 * handler, or has the default action when the instruction faults again. It calls nothing but the kernel
 * and writes nothing but the slot, so it may interrupt any thread anywhere.
 */
const GUARD: Routine = {
  name: "reactant_guard",
  offset: 0x20,
  source: `
    endbr64
    mov r8, [rsi+16]                          # si_addr
    lea r9, [rip + ${STATE_OFFSET - TEXT_OFFSET - 0x2f}]
    cmp dword ptr [rsi+8], 0                  # si_code
    jle 5f
    mov rcx, [r9+${STATE.count}]
    lea r10, [r9+${STATE.slots}]
 2: dec rcx
    js 5f
    cmp r8, [r10]
    jb 3f
    cmp r8, [r10+8]
    jb 4f
 3: add r10, ${SLOT_BYTES}
    jmp 2b
 4: push rdi
    push rsi
    push rdx
    push r9
    mov qword ptr [r10+16], 1
    mov rdi, r8
    and rdi, -4096
    mov rsi, [r10+8]
    sub rsi, rdi
    mov edx, 3                                # PROT_READ | PROT_WRITE
    mov r10d, 0x32                            # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    or r8, -1
    xor r9d, r9d
    mov eax, 9                                # mmap
    syscall
    pop r9
    pop rdx
    pop rsi
    pop rdi
    cmp rax, -4096
    ja 5f
    ret
 5: mov rax, [r9]
    cmp rax, 1
    jbe 6f
    jmp rax
 6: mov edi, 7                                # SIGBUS
    lea rsi, [r9+${STATE.defaultAction}]
    xor edx, edx
    mov r10d, 8
    mov eax, 13                               # rt_sigaction
    syscall
    ret`,
  bytes: `
    f30f1efa 4c8b4610 4c8d0dd11b0000 837e0800 7e63 498b4908 4d8d5130
    48ffc9 7856 4d3b02 7206 4d3b4208 7206 4983c218 ebea
    57 56 52 4151 49c7421001000000 4c89c7 4881e700f0ffff 498b7208 4829fe
    ba03000000 41ba32000000 4983c8ff 4531c9 b809000000 0f05
    4159 5a 5e 5f 483d00f0ffff 7701 c3
    498b01 4883f801 7602 ffe0
    bf07000000 498d7110 31d2 41ba08000000 b80d000000 0f05 c3`,
};

/** In the order of their offsets. */
export const ROUTINES: readonly Routine[] = [ADDRESS, CALL, GUARD];

/** The routines at their offsets, the room between them filled with `int3`. */
export function assembleText(): Uint8Array<ArrayBuffer> {
  const parts = ROUTINES.map(({ offset, bytes }) => ({
    offset,
    code: Uint8Array.from(bytes.match(/[0-9a-f]{2}/g)!, (pair) => parseInt(pair, 16)),
  }));
  const last = parts.at(-1)!;
  const text = new Uint8Array(last.offset + last.code.length).fill(0xcc);
  for (const { offset, code } of parts) text.set(code, offset);
  return text;
}
