// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// From go.bytecodealliance.org/pkg v0.2.1, wit/runtime/runtime.go; modified: it checks less.

package runtime

// A Handle is a resource's number at the node; 0 once it has been given away or dropped.
type Handle struct{ value int32 }

func MakeHandle(value int32) *Handle { return &Handle{value} }

// Use returns the number.
func (handle *Handle) Use() int32 {
	if handle.value == 0 {
		panic("the resource is not open any more")
	}
	return handle.value
}

// Take returns the number, and the handle is empty from then on.
func (handle *Handle) Take() int32 {
	value := handle.Use()
	handle.value = 0
	return value
}

// TakeOrNil is Take, but 0 if the handle is empty.
func (handle *Handle) TakeOrNil() int32 {
	value := handle.value
	handle.value = 0
	return value
}

// Set fills an empty handle.
func (handle *Handle) Set(value int32) { handle.value = value }
