package bucket

import (
	"jackfield"
	"jackfield/internal/bindings/imports/wasi_keyvalue_atomics"
	"jackfield/internal/bindings/imports/wasi_keyvalue_store"
	"jackfield/internal/wit/runtime"
	"jackfield/internal/wit/types"
)

// How often Update begins anew before it gives up.
const attempts = 100

// Update replaces the value of this key by what change makes of it, and returns the new one. old is
// nil if there is none. No other change comes in between: where one does, change is called again
// with what is there then, up to a hundred times.
//
// change may refuse: its error is Update's, and nothing is written. If it returns nil, the key stays as
// it is, and Update returns old. []byte{} is an empty value.
func (bucket *Bucket) Update(key string, change func(old []byte) ([]byte, error)) ([]byte, error) {
	if err := text("Bucket.Update", "key", key); err != nil {
		return nil, err
	}
	cas, err := ask(func() wit_types.Result[*wasi_keyvalue_atomics.Cas, wasi_keyvalue_store.Error] {
		return wasi_keyvalue_atomics.CasNew(bucket.handle, key)
	}, same[*wasi_keyvalue_atomics.Cas])
	if err != nil {
		return nil, err
	}
	for range attempts {
		old, err := ask(cas.Current, copiedValue)
		if err != nil {
			cas.Drop()
			return nil, err
		}
		value, err := change(old)
		if err != nil {
			cas.Drop()
			return nil, err
		}
		if value == nil {
			cas.Drop()
			return old, nil
		}
		if cas, err = swap(cas, value); err != nil {
			return nil, err
		}
		if cas == nil {
			return value, nil
		}
	}
	cas.Drop()
	return nil, jackfield.Errorf(jackfield.Failed, "%q was changed by others %d times meanwhile", key, attempts)
}

// swap writes the value; if another change came first, it returns the handle to try again with.
func swap(cas *wasi_keyvalue_atomics.Cas, value []byte) (*wasi_keyvalue_atomics.Cas, error) {
	runtime.BeginCall()
	defer runtime.EndCall()
	result := wasi_keyvalue_atomics.Swap(cas, value)
	if result.IsOk() {
		return nil, nil
	}
	refused := result.Err()
	if refused.Tag() == wasi_keyvalue_atomics.CasError_CasFailed {
		return refused.CasFailed(), nil
	}
	return nil, failure(refused.StoreError())
}
