package jackfield

// A Count is a number, gathered in the whole cluster.
type Count struct {
	Value   uint64
	Missing []string // nodes that did not answer; empty: the answer is complete
}
