package bucket

import (
	"encoding/json"

	"jackfield"
)

// GetJSON reads the value of this key, which is JSON; found is false if there is none. null is a value
// as any other, and an empty value is no JSON. InvalidArgument: the value is no JSON of a T.
func GetJSON[T any](bucket *Bucket, key string) (value T, found bool, err error) {
	bytes, err := bucket.Get(key)
	if err != nil || bytes == nil {
		return value, false, err
	}
	value, err = parsed[T](key, bytes)
	return value, true, err
}

// SetJSON gives the key a value in JSON. InvalidArgument: the value can't be written in JSON.
func SetJSON[T any](bucket *Bucket, key string, value T) error {
	bytes, err := written("bucket.SetJSON", value)
	if err != nil {
		return err
	}
	return bucket.Set(key, bytes)
}

// UpdateJSON is Update for a value in JSON, and reads and writes as GetJSON and SetJSON do: a nil that
// change returns is written as null. found is false, and old is T's zero value, if there is none.
func UpdateJSON[T any](
	bucket *Bucket, key string, change func(old T, found bool) (T, error),
) (updated T, err error) {
	_, err = bucket.Update(key, func(bytes []byte) ([]byte, error) {
		var old T
		var err error
		if bytes != nil {
			if old, err = parsed[T](key, bytes); err != nil {
				return nil, err
			}
		}
		if updated, err = change(old, bytes != nil); err != nil {
			return nil, err
		}
		return written("bucket.UpdateJSON", updated)
	})
	return updated, err
}

func parsed[T any](key string, bytes []byte) (value T, err error) {
	if err := json.Unmarshal(bytes, &value); err != nil {
		return value, jackfield.Errorf(jackfield.InvalidArgument, "the value of %q: %v", key, err)
	}
	return value, nil
}

func written(function string, value any) ([]byte, error) {
	bytes, err := json.Marshal(value)
	if err != nil {
		return nil, jackfield.Errorf(jackfield.InvalidArgument, "%s: value: %v", function, err)
	}
	return bytes, nil
}
