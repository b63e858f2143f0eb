package jackfield

// A Page is a part of a list.
type Page[T any] struct {
	Items   []T
	Next    string   // the next call's cursor; "" on the last page
	Missing []string // nodes that did not answer; empty: the answer is complete
}

// AllPages walks a whole list:
//
//	groups, err := jackfield.AllPages(func(cursor string) (jackfield.Page[string], error) {
//		return jackfield.GetAllGroups(cursor, 1000)
//	})
func AllPages[T any](ask func(cursor string) (Page[T], error)) ([]T, error) {
	var all []T
	for cursor := ""; ; {
		page, err := ask(cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}
