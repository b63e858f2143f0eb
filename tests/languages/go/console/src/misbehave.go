package main

import (
	"os"
	"time"

	"jackfield"
)

// Bad events on purpose: what a node must survive.

const (
	mebibyte  = 1 << 20
	pageBytes = 64 << 10
)

// What the events leave here, so that the compiler does not see that none of this has a point.
var sink any

// unreachable is the machine's own trap, without a word of explanation.
func unreachable()

// growBy asks for pages of linear memory, and returns how many there were; -1 if it is refused.
func growBy(pages int32) int32

func panics(given *arguments) (any, error) { panic(valueOr(given.Message, "asked to panic")) }

// spin works for this time, or for ever.
func spin(given *arguments) (any, error) {
	begin := time.Now()
	for given.MS == nil || time.Since(begin) < time.Duration(*given.MS)*time.Millisecond {
	}
	return nil, nil
}

// spinHost never ends either, but keeps coming back to the node.
func spinHost(given *arguments) (any, error) {
	for {
		jackfield.IsOnline(given.caller)
	}
}

// overflowStack: each call waits for the next.
func overflowStack(depth uint64) uint64 {
	if depth == 1<<63 {
		return 0
	}
	return overflowStack(depth+1)*31 ^ depth
}

func overflow(depth uint64) error { return invalid("the stack has no end: %d", depth) }

// eatMemory takes one allocation of this size, touched; or more and more until something gives way.
func eatMemory(given *arguments) (any, error) {
	if given.Bytes != nil {
		sink = touched(*given.Bytes)
		sink = nil
		return nil, nil
	}
	for eaten := [][]byte{}; ; sink = eaten {
		eaten = append(eaten, touched(mebibyte))
	}
}

func touched(bytes uint64) []byte {
	memory := make([]byte, bytes)
	for i := 0; i < len(memory); i += 1024 {
		memory[i] = 1
	}
	return memory
}

func growMemory(given *arguments) (any, error) {
	if *given.Bytes > 1<<32 {
		return nil, invalid("`bytes`: %d is beyond any memory", *given.Bytes)
	}
	return growBy(int32((*given.Bytes+pageBytes-1)/pageBytes)) >= 0, nil
}

func exit(given *arguments) (any, error) {
	code := int64(1)
	if given.Code != nil {
		var err error
		if code, err = given.Code.Int64(); err != nil {
			return nil, invalid("`code`: %v", err)
		}
	}
	os.Exit(int(code))
	return nil, nil
}
