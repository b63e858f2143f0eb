// Package bucket keeps state of the plugin's own, which outlives connections, instances and builds,
// in buckets that the manifest names:
//
//	[keyvalue]
//	buckets = ["visits"]
//
// A plugin that uses this package imports wasi:keyvalue, and is not loaded without [keyvalue].
//
// Every error of a bucket is a *jackfield.Error. InvalidArgument: a key is no text, or a
// value no JSON. Failed: anything
// else, as that the manifest does not name the bucket; the message says what. Where it says that the
// store failed, what was to be changed may have been changed.
package bucket

import (
	"strings"

	"jackfield"
	"jackfield/internal/bindings/imports/wasi_keyvalue_atomics"
	"jackfield/internal/bindings/imports/wasi_keyvalue_batch"
	"jackfield/internal/bindings/imports/wasi_keyvalue_store"
	"jackfield/internal/wit/types"
)

// A Bucket has values by key. With a node's defaults, keys have 1 to 256 bytes, values have up to
// 64 KiB, and all of a plugin's keys and values together 64 MiB.
type Bucket struct{ handle *wasi_keyvalue_store.Bucket }

// The instance opens each bucket once, and keeps it.
var opened = map[string]*Bucket{}

// Open opens a bucket that the manifest names. Opening it again costs nothing.
func Open(name string) (*Bucket, error) {
	if bucket := opened[name]; bucket != nil {
		return bucket, nil
	}
	if err := text("bucket.Open", "name", name); err != nil {
		return nil, err
	}
	handle, err := ask(func() wit_types.Result[*wasi_keyvalue_store.Bucket, wasi_keyvalue_store.Error] {
		return wasi_keyvalue_store.Open(name)
	}, same[*wasi_keyvalue_store.Bucket])
	if err != nil {
		return nil, err
	}
	bucket := &Bucket{handle}
	opened[strings.Clone(name)] = bucket
	return bucket, nil
}

// Get returns the value of this key; nil if there is none. An empty value is not nil.
func (bucket *Bucket) Get(key string) ([]byte, error) {
	if err := text("Bucket.Get", "key", key); err != nil {
		return nil, err
	}
	return ask(func() wit_types.Result[wit_types.Option[[]byte], wasi_keyvalue_store.Error] {
		return bucket.handle.Get(key)
	}, copiedValue)
}

// Set gives the key this value, in place of the one it had.
func (bucket *Bucket) Set(key string, value []byte) error {
	if err := text("Bucket.Set", "key", key); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wasi_keyvalue_store.Error] {
		return bucket.handle.Set(key, value)
	})
}

// Delete deletes the key; it is no error if there is none.
func (bucket *Bucket) Delete(key string) error {
	if err := text("Bucket.Delete", "key", key); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wasi_keyvalue_store.Error] {
		return bucket.handle.Delete(key)
	})
}

// Exists says whether there is such a key.
func (bucket *Bucket) Exists(key string) (bool, error) {
	if err := text("Bucket.Exists", "key", key); err != nil {
		return false, err
	}
	return ask(func() wit_types.Result[bool, wasi_keyvalue_store.Error] {
		return bucket.handle.Exists(key)
	}, same[bool])
}

// Keys returns all keys, in an order that the store has.
func (bucket *Bucket) Keys() ([]string, error) {
	return jackfield.AllPages(bucket.KeyPage)
}

// KeyPage returns a page of the keys. The first cursor is "".
func (bucket *Bucket) KeyPage(cursor string) (jackfield.Page[string], error) {
	if err := text("Bucket.KeyPage", "cursor", cursor); err != nil {
		return jackfield.Page[string]{}, err
	}
	after := wit_types.None[string]()
	if cursor != "" {
		after = wit_types.Some(cursor)
	}
	return ask(func() wit_types.Result[wasi_keyvalue_store.KeyResponse, wasi_keyvalue_store.Error] {
		return bucket.handle.ListKeys(after)
	}, func(page wasi_keyvalue_store.KeyResponse) jackfield.Page[string] {
		keys := make([]string, len(page.Keys))
		for i, key := range page.Keys {
			keys[i] = strings.Clone(key)
		}
		return jackfield.Page[string]{Items: keys, Next: strings.Clone(page.Cursor.SomeOr(""))}
	})
}

// Increment adds to the number of this key in one step, and returns what it is then. A key that is
// not there counts as 0; the value is the number in decimal.
func (bucket *Bucket) Increment(key string, delta int64) (int64, error) {
	if err := text("Bucket.Increment", "key", key); err != nil {
		return 0, err
	}
	return ask(func() wit_types.Result[int64, wasi_keyvalue_store.Error] {
		return wasi_keyvalue_atomics.Increment(bucket.handle, key, delta)
	}, same[int64])
}

// GetMany returns the values of up to 100 keys, in their order; nil for a key that is not there.
func (bucket *Bucket) GetMany(keys ...string) ([][]byte, error) {
	if err := text("Bucket.GetMany", "keys", keys...); err != nil {
		return nil, err
	}
	type pair = wit_types.Option[wit_types.Tuple2[string, []byte]]
	return ask(func() wit_types.Result[[]pair, wasi_keyvalue_store.Error] {
		return wasi_keyvalue_batch.GetMany(bucket.handle, keys)
	}, func(pairs []pair) [][]byte {
		values := make([][]byte, len(pairs))
		for i, pair := range pairs {
			if pair.IsSome() {
				values[i] = copied(pair.Some().F1)
			}
		}
		return values
	})
}

// SetMany gives up to 100 keys their values. It is not one step: where it fails, some keys may have
// theirs.
func (bucket *Bucket) SetMany(values map[string][]byte) error {
	pairs := make([]wit_types.Tuple2[string, []byte], 0, len(values))
	for key, value := range values {
		if err := text("Bucket.SetMany", "values", key); err != nil {
			return err
		}
		pairs = append(pairs, wit_types.Tuple2[string, []byte]{F0: key, F1: value})
	}
	return tell(func() wit_types.Result[unit, wasi_keyvalue_store.Error] {
		return wasi_keyvalue_batch.SetMany(bucket.handle, pairs)
	})
}

// DeleteMany deletes up to 100 keys. It is not one step: where it fails, some may be deleted.
func (bucket *Bucket) DeleteMany(keys ...string) error {
	if err := text("Bucket.DeleteMany", "keys", keys...); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wasi_keyvalue_store.Error] {
		return wasi_keyvalue_batch.DeleteMany(bucket.handle, keys)
	})
}

func copiedValue(value wit_types.Option[[]byte]) []byte {
	if value.IsNone() {
		return nil
	}
	return copied(value.Some())
}

// copied is never nil.
func copied(value []byte) []byte { return append([]byte{}, value...) }

func same[T any](answer T) T { return answer }
