package jackfield

// A Reach says whom a send reached.
type Reach struct {
	Clients uint64   // whose outbox took the message; 0 is no error
	Dropped uint64   // who lost it, because an outbox was full
	Missing []string // nodes that could not be told; empty: the answer is complete
}
