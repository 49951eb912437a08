package inventory

import (
	"encoding/json"
	"testing"
)

func TestFields(t *testing.T) {
	for _, c := range []struct{ path, object, left, taken string }{
		{"status", `{"spec":1,"status":{"a":1}}`, `{"spec":1}`, `{"status":{"a":1}}`},
		{"status", `{"spec":1}`, `{"spec":1}`, `null`},
		{"status", `{"status":{}}`, `null`, `{"status":{}}`},
		{"status", `{"status":null}`, `null`, `null`},
		{"a.b", `{"a":{"b":1,"c":2}}`, `{"a":{"c":2}}`, `{"a":{"b":1}}`},
		{"a.b", `{"a":{"b":1},"x":0}`, `{"x":0}`, `{"a":{"b":1}}`},
		{"a.b", `{"a":{},"x":0}`, `{"x":0}`, `null`},
		{"a.b", `{"a":"text"}`, `{"a":"text"}`, `null`},
		{"a.b", `{"a":[{"b":1}]}`, `{"a":[{"b":1}]}`, `null`},
		{`a["x.y/z"]`, `{"a":{"x.y/z":1,"x":2}}`, `{"a":{"x":2}}`, `{"a":{"x.y/z":1}}`},
		{`a["x-*"].c`, `{"a":{"x-1":{"c":1,"d":1},"x-2":{"d":2},"y":{"c":3}}}`, `{"a":{"x-1":{"d":1},"x-2":{"d":2},"y":{"c":3}}}`, `{"a":{"x-1":{"c":1}}}`},
		{"a[k=v]", `{"a":[{"k":"v"},{"k":"w"},7]}`, `{"a":[{"k":"w"},7]}`, `{"a":[{"k":"v"}]}`},
		{"a[k=v].b", `{"a":[{"k":"v","b":1},{"k":"w","b":2}]}`, `{"a":[{"k":"v"},{"b":2,"k":"w"}]}`, `{"a":[{"b":1}]}`},
		{"a[k=v]", `{"a":[{"k":"v"}],"x":0}`, `{"x":0}`, `{"a":[{"k":"v"}]}`},
		{"a[k=v]", `{"a":{"k":"v"}}`, `{"a":{"k":"v"}}`, `null`},
	} {
		f, err := parseField(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		var object any
		if err := json.Unmarshal([]byte(c.object), &object); err != nil {
			t.Fatal(err)
		}
		left, taken := f.cut(object)
		if text(left) != c.left || text(taken) != c.taken {
			t.Errorf("%s of %s: left %s, taken %s; want %s and %s", c.path, c.object, text(left), text(taken), c.left, c.taken)
		}
	}
	for _, path := range []string{"a..b", ".a", "a[b", `a["b`, "a[]", "a."} {
		if f, err := parseField(path); err == nil {
			t.Errorf("%s: %v", path, f)
		}
	}
	if _, err := newReader(); err != nil {
		t.Errorf("the table: %v", err)
	}
}
