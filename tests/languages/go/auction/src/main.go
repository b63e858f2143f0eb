// Auctions: a backend opens them, clients bid, and a timer of the cluster ends them.
package main

import "jackfield"

const group = "auction"

func init() {
	jackfield.Serve(jackfield.Plugin{
		OnConnect: onConnect,
		OnMessage: onMessage,
		OnCall:    onCall,
		OnTimer:   onTimer,
	})
}

func main() {}

func onConnect(client jackfield.ClientID, handshake jackfield.Handshake) (jackfield.Acceptance, error) {
	name := handshake.Query.Get("name")
	if name == "" {
		return jackfield.Acceptance{}, jackfield.Refuse(400, "say ?name=")
	}
	return jackfield.Acceptance{UID: new(name), Groups: []string{group}}, nil
}

// everybody hears the event.
func everybody(event any) {
	if _, err := jackfield.SendToGroup(group, jackfield.JSON(event)); err != nil {
		jackfield.Logf(jackfield.LevelError, "nobody heard %v: %v", event, err)
	}
}
