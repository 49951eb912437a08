package procedure_test

import (
	"testing"

	"github.com/etcd-drill/drill/pkg/procedure"
)

// TestOwnWay: only what nobody asked to vary is a procedure's own way, whoever says so.
func TestOwnWay(t *testing.T) {
	everyVariant(func(where string, p procedure.Procedure, keep, renew []string) {
		for _, bump := range []uint64{0, 1000} {
			target := three()
			target.BumpRevision, target.KeepRunning, target.Renew = bump, keep, renew
			want := len(keep) == 0 && len(renew) == 0 && p.Bump == (bump > 0)
			if built, said := p.Build(target).Variant.Own, p.Variant(bump, keep, renew).Own; built != want || said != want {
				t.Errorf("%s, raising the revision by %d: %v and %v, want %v", where, bump, built, said, want)
			}
		}
	})
}
