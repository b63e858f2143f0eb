package jackfield

// A ClientID names one client, which is one WebSocket connection, in the whole cluster. It is
// never used twice. Keep it and pass it on as it is: what is inside may change.
type ClientID string
