// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// From go.bytecodealliance.org/pkg v0.2.1, wit/runtime/runtime.go; modified: it allocates words.

package runtime

import (
	"runtime"
	"unsafe"
)

// Allocate returns memory that the garbage collector keeps where it is until the pinner lets go: for
// what the generated code hands over to the node.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	// Words, so that every alignment of the contract's types is kept.
	memory := unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	pinner.Pin(memory)
	return memory
}
