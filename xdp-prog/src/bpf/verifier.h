/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the kernel's verifier asks of the source.
 *
 * It is strict where who loads the program has CAP_BPF, but not CAP_PERFMON: only constants may be added to a pointer,
 * two pointers may not be subtracted, nor one compared with 0, and loops are followed beyond their end, as by a CPU that
 * guesses wrong. So there are no loops, and what is added step by step is hidden from clang, which would make
 * one sum of it.
 */
#pragma once

#define UNROLLED _Pragma("clang loop unroll(full)")
#define HIDE(value) asm volatile("" : "+r"(value))
