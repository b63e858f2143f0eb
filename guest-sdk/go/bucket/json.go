package bucket

import "encoding/json"

// GetJSON reads the value of this key, which is JSON; found is false if there is none.
func GetJSON[T any](bucket *Bucket, key string) (value T, found bool, err error) {
	bytes, err := bucket.Get(key)
	if err != nil || bytes == nil {
		return value, false, err
	}
	return value, true, json.Unmarshal(bytes, &value)
}

// SetJSON gives the key a value in JSON.
func SetJSON[T any](bucket *Bucket, key string, value T) error {
	bytes, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return bucket.Set(key, bytes)
}

// UpdateJSON is Update for a value in JSON. found is false, and old is T's zero value, if there is
// none.
func UpdateJSON[T any](
	bucket *Bucket, key string, change func(old T, found bool) (T, error),
) (updated T, err error) {
	_, err = bucket.Update(key, func(bytes []byte) ([]byte, error) {
		var old T
		if bytes != nil {
			if err := json.Unmarshal(bytes, &old); err != nil {
				return nil, err
			}
		}
		var err error
		if updated, err = change(old, bytes != nil); err != nil {
			return nil, err
		}
		return json.Marshal(updated)
	})
	return updated, err
}
