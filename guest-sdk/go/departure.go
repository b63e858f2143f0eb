package jackfield

// A Departure is a client that has left, as it was.
type Departure struct {
	Code   uint16 // of the close frame; 1005: a frame without one, 1006: no frame at all
	Reason string // of the close frame, perhaps empty
	By     Closer
	UID    string   // the uid it had, or ""
	Groups []string // those it was in
	Info   map[string]string
}

// A Closer says who ended a connection.
type Closer string

const (
	ByClient  Closer = "client"  // it sent a close frame
	ByPlugin  Closer = "plugin"  // a close function, or a policy of the manifest
	ByNode    Closer = "node"    // a broken protocol or limit, no answer to a ping, a drain
	ByNetwork Closer = "network" // the connection broke
)
