// Package runtime is what the generated code needs beside itself. It takes the place of
// go.bytecodealliance.org/pkg/wit/runtime, whose cabi_realloc takes memory from Go's heap.
//
// The node calls cabi_realloc for room when it hands something over: an event's arguments, or a
// call's answer. While it runs, the component model forbids every call of the node, and a garbage
// collection reads the clock: one that began or went on there would trap ("cannot leave component
// instance"). So cabi_realloc takes memory from an arena beside Go's heap. It never allocates in Go,
// never switches to another goroutine, and the collector runs as it likes everywhere else.
//
// What lies in the arena is valid for a short time: package jackfield copies it before it uses it.
package runtime

import (
	"runtime"
	"unsafe"
)

const pageBytes = 64 << 10

var (
	// The arena is from base to end. From next on it is free.
	base, next, end uintptr

	// How many calls of the node have an answer in the arena that is not copied yet.
	answers int

	// Whether an event is under way and its arguments are copied. Otherwise what is in the arena may
	// be the arguments of the next event.
	inEvent bool
)

func init() {
	// What is there already stays: the memory of the WASI adapter, which asks for it while Go starts.
	base = next
}

// BeginEvent says that the arguments of an event are copied.
func BeginEvent() {
	inEvent = true
	reset()
}

// EndEvent says that an event is over. A goroutine that was left in the middle of a call gets to the
// end of it, or the arena could never be used anew.
func EndEvent() {
	for tries := 0; answers > 0 && tries < 1000; tries++ {
		runtime.Gosched()
	}
	inEvent = false
}

// BeginCall says that a call of the node begins, whose answer comes into the arena.
func BeginCall() { answers++ }

// EndCall says that the answer is copied.
func EndCall() {
	answers--
	reset()
}

func reset() {
	if answers == 0 && inEvent {
		next = base
	}
}

// Unpin is called by generated code; there is nothing to do.
func Unpin() {}

//go:linkname sbrk runtime.sbrk
func sbrk(bytes uintptr) unsafe.Pointer

// Trap ends the event as the machine's own trap.
func Trap()

//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if aligned(next, align)+size > end {
		grow(align + size)
	}
	at := aligned(next, align)
	next = at + size
	moved := unsafe.Pointer(at)
	for i := uintptr(0); i < min(oldSize, size); i++ {
		*(*byte)(unsafe.Add(moved, i)) = *(*byte)(unsafe.Add(old, i))
	}
	return moved
}

//go:nosplit
func aligned(at, align uintptr) uintptr { return (at + align - 1) &^ (align - 1) }

// grow makes room for so many bytes. The system takes no memory back, so what is there is kept for
// the next events. An arena that can't be continued begins anew, twice as large at least: all of
// them together are bounded by the largest.
//
//go:nosplit
func grow(bytes uintptr) {
	bytes = aligned(bytes+end-base, pageBytes)
	at := uintptr(sbrk(bytes))
	if at == 0 {
		Trap() // the node has refused the memory, and says so
	}
	if at != end {
		base, next = at, at
	}
	end = at + bytes
}
