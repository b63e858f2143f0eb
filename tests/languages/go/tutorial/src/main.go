// One room: everybody hears everybody, by name, until a backend closes it.
package main

import (
	"fmt"
	"strconv"
	"time"

	"jackfield"
	"jackfield/bucket"
)

func init() {
	jackfield.Serve(jackfield.Plugin{
		OnConnect: onConnect, OnMessage: onMessage, OnClose: onClose, OnCall: onCall, OnTimer: onTimer,
	})
}

func main() {}

func onConnect(client jackfield.ClientID, handshake jackfield.Handshake) (jackfield.Acceptance, error) {
	name := handshake.Query.Get("name")
	if name == "" {
		return jackfield.Acceptance{}, jackfield.Refuse(400, "say ?name=")
	}
	visits, err := countVisit(name)
	if err != nil {
		return jackfield.Acceptance{}, jackfield.Refuse(503, err.Error())
	}
	jackfield.SendToClient(client, jackfield.Text(fmt.Sprintf("welcome, %s: visit %d", name, visits)))
	return jackfield.Acceptance{UID: new(name), Groups: []string{"lobby"}}, nil
}

func countVisit(name string) (int64, error) {
	visits, err := bucket.Open("default")
	if err != nil {
		return 0, err
	}
	return visits.Increment(name, 1)
}

func onMessage(client jackfield.ClientID, message jackfield.Message) {
	text, ok := message.Text()
	if !ok {
		return
	}
	name, err := jackfield.GetUIDByClientID(client)
	if err != nil {
		return // it has left
	}
	jackfield.SendToGroup("lobby", jackfield.Text(name+": "+text), client)
}

func onClose(client jackfield.ClientID, departure jackfield.Departure) {
	jackfield.SendToGroup("lobby", jackfield.Text(departure.UID+" has left"))
}

func onCall(caller jackfield.Caller, method string, payload []byte) ([]byte, error) {
	if method != "close" {
		return nil, jackfield.Errorf(jackfield.UnknownMethod, "there is no method %q", method)
	}
	seconds, err := strconv.ParseUint(string(payload), 10, 16)
	if err != nil {
		return nil, jackfield.Errorf(jackfield.InvalidArgument, "say how many seconds")
	}
	timer := jackfield.Timer{After: time.Duration(seconds) * time.Second, Scope: jackfield.OnCluster}
	if err := jackfield.SetTimer("close", timer); err != nil {
		return nil, err
	}
	told := fmt.Sprintf("the lobby closes in %d s", seconds)
	reach, err := jackfield.SendToGroup("lobby", jackfield.Text(told))
	return fmt.Append(nil, reach.Clients), err
}

func onTimer(name string) {
	jackfield.CloseGroup("lobby", 4000, "the lobby is closed")
}
