package inventory

import (
	"fmt"
	"strings"
)

// field is a path to a part of an object as JSON has it, in the notation of kubectl's JSONPath: names joined by dots; ["NAME"] for a name that has dots
// itself; [KEY=VALUE] for the elements of a list whose KEY is VALUE. A NAME or VALUE that ends in * stands for all that begin like this.
type field []segment

type segment struct {
	// by is set where elements of a list are chosen.
	by, name string
}

func (s segment) matches(name string) bool {
	if prefix, glob := strings.CutSuffix(s.name, "*"); glob {
		return strings.HasPrefix(name, prefix)
	}
	return s.name == name
}

// parseField reads the notation of field.
func parseField(path string) (field, error) {
	var f field
	for rest := path; rest != ""; {
		var inside string
		found := true
		if rest[0] == '[' {
			inside, rest, found = strings.Cut(rest[1:], "]")
			if by, name, is := strings.Cut(inside, "="); is && !strings.HasPrefix(inside, `"`) {
				f = append(f, segment{by: by, name: name})
			} else {
				f = append(f, segment{name: strings.Trim(inside, `"`)})
			}
		} else {
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			f, rest = append(f, segment{name: rest[:end]}), rest[end:]
		}
		if !found || f[len(f)-1].name == "" || rest == "." {
			return nil, fmt.Errorf("field %s: a name or a bracket is missing", path)
		}
		rest = strings.TrimPrefix(rest, ".")
	}
	return f, nil
}

// cut takes the field out of a value, and returns what is left of it and what was taken; nil for nothing. What the field leaves empty is taken away with it: whether there is an
// empty map of annotations or none says nothing.
func (f field) cut(v any) (rest, taken any) {
	if len(f) == 0 {
		return nil, v
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			if f[0].by != "" || !f[0].matches(name) {
				continue
			}
			left, cut := f[1:].cut(value)
			if cut != nil {
				out[name] = cut
			}
			if left == nil {
				delete(v, name)
			} else {
				v[name] = left
			}
		}
		return orNil(v, len(v)), orNil(out, len(out))
	case []any:
		var kept, out []any
		for _, element := range v {
			m, _ := element.(map[string]any)
			if name, is := m[f[0].by].(string); !is || !f[0].matches(name) {
				kept = append(kept, element)
				continue
			}
			left, cut := f[1:].cut(element)
			if cut != nil {
				out = append(out, cut)
			}
			if left != nil {
				kept = append(kept, left)
			}
		}
		return orNil(kept, len(kept)), orNil(out, len(out))
	default:
		return v, nil
	}
}

func orNil(v any, size int) any {
	if size == 0 {
		return nil
	}
	return v
}
