package inventory_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/inventory"
)

// TestStored: an inventory that was written down and read again is the same, to the last part of it that comparing looks at.
func TestStored(t *testing.T) {
	all := realKeys(t)
	for name, p := range partlyLeftOut() {
		all["/"+name+p.key] = asStored(t, p.manifest)
	}
	for name, w := range wholeLeftOut() {
		if !strings.HasPrefix(w.manifest, `"`) {
			all["/"+name+w.key] = asStored(t, w.manifest)
		}
	}
	for name, inv := range map[string]inventory.Inventory{"nothing known": {}, "nothing there": {Revision: 3, Objects: map[string]inventory.Object{}}, "everything": all.read(t)} {
		t.Run(name, func(t *testing.T) {
			b, err := json.Marshal(inv)
			if err != nil {
				t.Fatal(err)
			}
			var again inventory.Inventory
			if err := json.Unmarshal(b, &again); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(inv, again) {
				t.Errorf("%d objects became others", len(inv.Objects))
			}
		})
	}
}

func TestStoredByAnotherVersion(t *testing.T) {
	b, err := json.Marshal(realKeys(t).read(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{`"rule":"events"`, `"rule":"managed-fields"`} {
		if !strings.Contains(string(b), name) {
			t.Fatalf("nothing has %s", name)
		}
		var inv inventory.Inventory
		err := json.Unmarshal([]byte(strings.ReplaceAll(string(b), name, `"rule":"nonesuch"`)), &inv)
		if err == nil || !strings.Contains(err.Error(), `"nonesuch"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
