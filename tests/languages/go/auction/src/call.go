package main

import (
	"encoding/json"
	"time"

	"jackfield"
	"jackfield/bucket"
)

type opened struct {
	Item     string `json:"item"`
	EndsInMS int64  `json:"ends_in_ms"`
}

type state struct {
	Item  string  `json:"item"`
	Price int64   `json:"price"`
	By    *string `json:"by"`
	Open  bool    `json:"open"`
}

func onCall(_ jackfield.Caller, method string, payload []byte) ([]byte, error) {
	var answer any
	var err error
	switch method {
	case "open":
		answer, err = open(payload)
	case "state":
		answer, err = stateOf(payload)
	default:
		err = jackfield.Errorf(jackfield.UnknownMethod, "there is no method %q", method)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

const longest = 366 * 24 * time.Hour / time.Millisecond // what a timer can wait

func open(payload []byte) (any, error) {
	var asked struct {
		Item  string
		Price *int64
		MS    int64
	}
	err := json.Unmarshal(payload, &asked)
	if err != nil || asked.Item == "" || asked.Price == nil || asked.MS < 10 || asked.MS > int64(longest) {
		return nil, jackfield.Errorf(jackfield.InvalidArgument,
			`open takes {"item":"vase","price":100,"ms":30000}, with ms from 10 to %d`, longest)
	}
	bucketOfAuctions, err := auctions()
	if err != nil {
		return nil, err
	}
	_, err = bucket.UpdateJSON(bucketOfAuctions, asked.Item, func(old auction, found bool) (auction, error) {
		if old.Open {
			return old, jackfield.Errorf(jackfield.InvalidArgument, "%q is already open", asked.Item)
		}
		return auction{Price: *asked.Price, Open: true, Ends: now() + asked.MS}, nil
	})
	if err != nil {
		return nil, err
	}
	if err := setEnd(asked.Item, asked.MS); err != nil {
		bucketOfAuctions.Delete(asked.Item) // nothing would ever end it
		return nil, err
	}
	return opened{asked.Item, asked.MS}, nil
}

func stateOf(payload []byte) (any, error) {
	var asked struct{ Item string }
	if err := json.Unmarshal(payload, &asked); err != nil || asked.Item == "" {
		return nil, jackfield.Errorf(jackfield.InvalidArgument, `state takes {"item":"vase"}`)
	}
	bucketOfAuctions, err := auctions()
	if err != nil {
		return nil, err
	}
	found, ok, err := bucket.GetJSON[auction](bucketOfAuctions, asked.Item)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, jackfield.Errorf(jackfield.NotFound, "there is no %q", asked.Item)
	}
	return state{asked.Item, found.Price, found.By, found.Open}, nil
}
