package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/etcd/etcdtest"
	"github.com/etcd-drill/drill/pkg/inventory"
	"github.com/etcd-drill/drill/pkg/plan"
)

// ledgerCase is a real etcd with a snapshot of it, and the check that compares them.
type ledgerCase struct {
	s     *Subject
	cli   *clientv3.Client
	check plan.Check
}

// Keys of ledgerCase.
const (
	keyDeployment = "/registry/deployments/default/web"
	keyConfigMap  = "/registry/configmaps/default/settings"
	keySecret     = "/registry/secrets/default/word"
	keyOwn        = "/registry/configmaps/default/probe"
	keyEvent      = "/registry/events/default/e"
)

// stored is an object as JSON: the API server reads that of every kind, and stores it of some.
func storedAs(apiVersion, kind, name, uid, rest string) string {
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"namespace":"default","name":%q,"uid":%q,"managedFields":[{"manager":"kubectl","time":"2026-01-01T00:00:00Z"}]}%s}`,
		apiVersion, kind, name, uid, rest)
}

func webOf(replicas, ready int) string {
	return storedAs("apps/v1", "Deployment", "web", "uid-web", fmt.Sprintf(`,"spec":{"replicas":%d},"status":{"readyReplicas":%d}`, replicas, ready))
}

func settingsOf(uid, data string) string {
	return storedAs("v1", "ConfigMap", "settings", uid, `,"data":`+data)
}

func newLedgerCase(t *testing.T) *ledgerCase {
	t.Helper()
	ep, cli := realEtcd(t, "a")
	c := &ledgerCase{cli: cli, s: &Subject{
		Endpoints: []etcd.Endpoint{ep},
		Worker:    etcdtest.Worker(t),
		Own:       []plan.Object{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "probe"}},
	}}
	c.put(t, keyDeployment, webOf(2, 2))
	c.put(t, keyConfigMap, settingsOf("uid-settings", `{"a":"1"}`))
	c.put(t, keySecret, storedAs("v1", "Secret", "word", "uid-word", `,"data":{"word":"c2VzYW1l"}`))
	c.put(t, keyOwn, storedAs("v1", "ConfigMap", "probe", "uid-probe", `,"data":{"at":"1"}`))
	c.put(t, keyEvent, storedAs("v1", "Event", "e", "uid-e", ""))
	info, err := etcd.Save(t.Context(), ep, filepath.Join(t.TempDir(), "vault", "snapshot.db"))
	if err != nil {
		t.Fatal(err)
	}
	c.s.Snapshot = &info
	c.check = LedgerExact(c.s)
	return c
}

func (c *ledgerCase) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := c.cli.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func (c *ledgerCase) remove(t *testing.T, key string) {
	t.Helper()
	if _, err := c.cli.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// now is what etcd holds.
func (c *ledgerCase) now(t *testing.T) inventory.Inventory {
	t.Helper()
	inv, err := inventory.Read(t.Context(), inventory.FromEtcd(c.s.Endpoints[0]))
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func TestLedgerExact(t *testing.T) {
	c := newLedgerCase(t)
	look := func() plan.Finding {
		t.Helper()
		f, err := c.check.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	c.put(t, keyDeployment, webOf(2, 1))
	c.put(t, keyOwn, storedAs("v1", "ConfigMap", "probe", "uid-probe", `,"data":{"at":"2"}`))
	c.remove(t, keyEvent)
	f := look()
	if f.Status != plan.StatusPassed || f.Detail != "3 keys as in the snapshot, 1 of them but for fields that 1 rule leaves out; 1 left out by 1 rule, 1 as drill's own" {
		t.Errorf("%+v", f)
	}
	for _, want := range []string{"as in the snapshot: 1 ConfigMap, 1 Deployment.apps, 1 Secret", "rule status: 1 key without status: ", "rule events: 1 key left out: ", "1 key left out as drill's own"} {
		if !slices.ContainsFunc(f.Evidence, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("%q; want %q", f.Evidence, want)
		}
	}

	c.put(t, keyDeployment, webOf(3, 1))
	f = look()
	differs(t, f, nil, "Deployment.apps default/web", "spec.replicas: 2", "spec.replicas: 3 (last written by kubectl)")
	if len(f.Differences) != 1 || !strings.HasPrefix(f.Detail, "1 of 3 keys not as in the snapshot (0 missing, 0 added, 1 changed): ") || f.Final {
		t.Errorf("%+v", f)
	}
	c.put(t, keyDeployment, webOf(4, 1))
	differs(t, look(), nil, "Deployment.apps default/web", "spec.replicas: 2", "spec.replicas: 4")

	c.put(t, keySecret, storedAs("v1", "Secret", "word", "uid-word", `,"data":{"word":"b3Blbg=="}`))
	c.put(t, "/registry/configmaps/default/new", storedAs("v1", "ConfigMap", "new", "uid-new", ""))
	c.put(t, keyConfigMap, settingsOf("uid-other", `{"a":"1"}`))
	f = look()
	differs(t, f, nil, "Secret default/word", "data.word: (hidden)", "data.word: (hidden)")
	differs(t, f, nil, "ConfigMap default/new", "nothing", "UID uid-new (last written by kubectl)")
	differs(t, f, nil, "ConfigMap default/settings", "UID uid-settings", "UID uid-other, another object under the same name")
	if len(f.Differences) != 4 || strings.Contains(fmt.Sprint(f), "c2Vz") || strings.Contains(fmt.Sprint(f), "b3Bl") {
		t.Errorf("%+v", f)
	}

	c.put(t, keyConfigMap, settingsOf("uid-settings", `{"a":"2","b":"2","c":"3","d":"4","e":"5","f":"6","g":"7"}`))
	f = look()
	differs(t, f, nil, "ConfigMap default/settings", `data.a: "1"`, `data.a: "2"`)
	differs(t, f, nil, "ConfigMap default/settings", "data.e: nothing", `data.e: "5"`)
	if !slices.Contains(f.Evidence, "ConfigMap default/settings differs in 2 fields more") {
		t.Errorf("%q", f.Evidence)
	}

	// Back as it was, by whatever way.
	c.put(t, keyDeployment, webOf(2, 2))
	c.put(t, keyConfigMap, settingsOf("uid-settings", `{"a":"1"}`))
	c.put(t, keySecret, storedAs("v1", "Secret", "word", "uid-word", `,"data":{"word":"c2VzYW1l"}`))
	c.remove(t, "/registry/configmaps/default/new")
	if f := look(); f.Status != plan.StatusPassed {
		t.Errorf("%+v", f)
	}
}

// TestLedgerExactReadsTheSnapshotOnce: looking again costs no second reading, unless there is another snapshot.
func TestLedgerExactReadsTheSnapshotOnce(t *testing.T) {
	c := newLedgerCase(t)
	if f, err := c.check.Look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Fatalf("%+v, %v", f, err)
	}
	c.s.Worker = etcd.Worker{Command: []string{"false"}}
	if f, err := c.check.Look(t.Context()); err != nil || f.Status != plan.StatusPassed {
		t.Errorf("%+v, %v", f, err)
	}
	c.s.Before.AtBreak = c.now(t)
	if _, _, _, err := Loss(t.Context(), c.s); err != nil {
		t.Errorf("the loss is not told by what was read: %v", err)
	}
	other := *c.s.Snapshot
	other.SHA256 = "another"
	c.s.Snapshot = &other
	if f, err := c.check.Look(t.Context()); !errors.Is(err, etcd.ErrWorker) {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestLedgerExactWithEncryptedLeases passes, and says what it can't say.
func TestLedgerExactWithEncryptedLeases(t *testing.T) {
	c := newLedgerCase(t)
	lease := func(text string) { c.put(t, "/registry/leases/default/l", "k8s:enc:aescbc:v1:key1:"+text) }
	lease("x")
	info, err := etcd.Save(t.Context(), c.s.Endpoints[0], filepath.Join(t.TempDir(), "vault", "snapshot.db"))
	if err != nil {
		t.Fatal(err)
	}
	c.s.Snapshot = &info
	lease("y")
	f, err := c.check.Look(t.Context())
	if err != nil || f.Status != plan.StatusPassed || !strings.HasPrefix(f.Detail, "4 keys as in the snapshot, 1 of them encrypted and only known to be there; ") ||
		!holds(f.Evidence, "1 key encrypted", "nothing but their existence was compared") {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestLedgerExactNamesTheCause of what it found.
func TestLedgerExactNamesTheCause(t *testing.T) {
	for want, act := range map[string]func(t *testing.T, c *ledgerCase){
		"etcd does not run on what was restored from it": func(t *testing.T, c *ledgerCase) {
			c.put(t, "/registry/configmaps/default/late", storedAs("v1", "ConfigMap", "late", "uid-late", ""))
			c.s.Before.AtOutage = c.now(t)
		},
		"compare the data directory": func(t *testing.T, c *ledgerCase) {
			c.put(t, keyDeployment, webOf(9, 2))
			c.s.Before.AtBreak = c.now(t)
		},
		"another snapshot or on an empty directory": func(t *testing.T, c *ledgerCase) {
			c.remove(t, keyDeployment)
			c.remove(t, keyConfigMap)
		},
		"somebody deleted it": func(t *testing.T, c *ledgerCase) { c.remove(t, keyConfigMap) },
		"somebody wrote":      func(t *testing.T, c *ledgerCase) { c.put(t, keyConfigMap, settingsOf("uid-settings", "{}")) },
	} {
		t.Run(want, func(t *testing.T) {
			c := newLedgerCase(t)
			act(t, c)
			f, err := c.check.Look(t.Context())
			if err != nil || f.Status != plan.StatusFailed || !strings.Contains(f.Remedy, want) {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}

// TestLedgerExactWithoutItsMeans never passes.
func TestLedgerExactWithoutItsMeans(t *testing.T) {
	c := newLedgerCase(t)
	for name, s := range map[string]*Subject{"no snapshot": {Endpoints: c.s.Endpoints}, "no etcd": {Snapshot: c.s.Snapshot, Worker: c.s.Worker}} {
		if f, err := LedgerExact(s).Look(t.Context()); err != nil || f.Status != plan.StatusFailed || !f.Final || f.Remedy == "" {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if _, _, _, err := Loss(t.Context(), s); err == nil {
			t.Errorf("%s: a loss is known", name)
		}
	}
	ep, _ := realEtcd(t, "empty")
	info, err := etcd.Save(t.Context(), ep, filepath.Join(t.TempDir(), "vault", "snapshot.db"))
	if err != nil {
		t.Fatal(err)
	}
	empty := &Subject{Endpoints: []etcd.Endpoint{ep}, Worker: c.s.Worker, Snapshot: &info}
	if f, err := LedgerExact(empty).Look(t.Context()); err != nil || f.Status != plan.StatusFailed || !f.Final {
		t.Errorf("nothing compared with nothing: %+v, %v", f, err)
	}
	gone := *c.s
	gone.Endpoints = []etcd.Endpoint{{URL: "http://127.0.0.1:1"}}
	if f, err := LedgerExact(&gone).Look(t.Context()); err == nil {
		t.Errorf("nobody answers: %+v", f)
	}
	damaged := *c.s.Snapshot
	damaged.Path = filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(damaged.Path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := *c.s
	bad.Snapshot, bad.Ledger = &damaged, nil
	if f, err := LedgerExact(&bad).Look(t.Context()); !errors.Is(err, etcd.ErrNotSnapshot) {
		t.Errorf("%+v, %v", f, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f, err := c.check.Look(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestLoss(t *testing.T) {
	c := newLedgerCase(t)
	if lost, reverted, revived, err := Loss(t.Context(), c.s); err != nil || lost != nil || reverted != nil || revived != nil {
		t.Errorf("nothing is known of before: %v, %v, %v, %v", lost, reverted, revived, err)
	}
	c.s.Before.AtBreak = c.now(t)
	c.s.Before.AtOutage = c.s.Before.AtBreak
	lost, reverted, revived, err := Loss(t.Context(), c.s)
	if err != nil || lost == nil || len(lost)+len(reverted)+len(revived) > 0 {
		t.Errorf("nothing was lost: %v, %v, %v, %v", lost, reverted, revived, err)
	}

	c.put(t, "/registry/configmaps/default/late", storedAs("v1", "ConfigMap", "late", "uid-late", ""))
	c.put(t, keyConfigMap, settingsOf("uid-settings", `{"a":"2"}`))
	c.put(t, keyOwn, storedAs("v1", "ConfigMap", "probe", "uid-probe", `,"data":{"at":"2"}`))
	c.s.Before.AtBreak = c.now(t)
	c.remove(t, keyDeployment)
	c.s.Before.AtOutage = c.now(t)
	c.remove(t, "/registry/configmaps/default/late")
	c.put(t, keyConfigMap, settingsOf("uid-settings", `{"a":"1"}`))
	c.put(t, keyDeployment, webOf(2, 0))
	lost, reverted, revived, err = Loss(t.Context(), c.s)
	want := [][]plan.Object{
		{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "late"}},
		{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "settings"}},
		{{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "web"}},
	}
	if got := [][]plan.Object{lost, reverted, revived}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
