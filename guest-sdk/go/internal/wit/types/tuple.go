// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// From go.bytecodealliance.org/pkg v0.2.1, wit/types/tuple.go; modified: only Tuple2 is left.

package wit_types

type Tuple2[T0 any, T1 any] struct {
	F0 T0
	F1 T1
}
