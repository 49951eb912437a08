package runner

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/journal"
	"github.com/etcd-drill/drill/pkg/plan"
)

// etcdManifest is one that uses the data directory.
func etcdManifest(dataDir string) string {
	return `{apiVersion: v1, kind: Pod, metadata: {name: etcd, namespace: kube-system}, spec: {
  containers: [{name: etcd, image: e, command: [etcd, --name=cp, --data-dir=/var/lib/etcd, "--advertise-client-urls=https://127.0.0.1:2379", "--initial-advertise-peer-urls=https://127.0.0.1:2380",
    "--listen-client-urls=https://127.0.0.1:2379", --trusted-ca-file=/pki/ca, --cert-file=/pki/crt, --key-file=/pki/key, "--listen-metrics-urls=http://127.0.0.1:2381"],
    volumeMounts: [{name: etcd-data, mountPath: /var/lib/etcd}, {name: pki, mountPath: /pki}]}],
  volumes: [{name: etcd-data, hostPath: {path: ` + dataDir + `}}, {name: pki, hostPath: {path: /pki}}]}}`
}

func TestClean(t *testing.T) {
	passed := journal.Entry{Kind: journal.Ended, Verdict: plan.VerdictPassed}
	for name, c := range map[string]struct {
		dataDir string
		entries []journal.Entry
		want    error
		says    string
	}{
		"what nobody needs":              {"/var/lib/etcd", []journal.Entry{passed}, nil, ""},
		"what etcd runs on":              {"/var/lib/drill/a-run/etcd", []journal.Entry{passed}, ErrInUse, "etcd runs on /var/lib/drill/a-run/etcd"},
		"what another run has":           {"/var/lib/drill/a-run-2/etcd", []journal.Entry{passed}, nil, ""},
		"what hasn't come to its end":    {"/var/lib/etcd", nil, nil, "has not come to its end"},
		"what could not be rolled back":  {"/var/lib/etcd", []journal.Entry{{Kind: journal.Ended, Rollback: plan.StatusFailed}}, nil, "has not come to its end"},
		"of which the manifest is gone":  {"", []journal.Entry{passed}, os.ErrNotExist, "etcd.yaml"},
		"of a run that was rolled back":  {"/var/lib/etcd", []journal.Entry{{Kind: journal.Ended, Rollback: plan.StatusPassed}}, nil, ""},
		"of one that was rolled back to": {"/var/lib/drill/a-run/etcd-rolled-back", []journal.Entry{{Kind: journal.Ended, Rollback: plan.StatusPassed}}, ErrInUse, "etcd-rolled-back"},
	} {
		t.Run(name, func(t *testing.T) {
			job := left(t, Job{}, c.entries...)
			n := job.Cluster.(lab)[0]
			files := map[string]string{
				"/var/lib/drill/a-run/etcd/member/snap/db": "db", "/var/lib/drill/a-run-2/etcd/member/snap/db": "db", "/var/lib/etcd/member/snap/db": "db",
				"/etc/kubernetes/manifests-moved-by-a-run/etcd.yaml": "old",
			}
			if c.dataDir != "" {
				files["/etc/kubernetes/manifests/etcd.yaml"] = etcdManifest(c.dataDir)
			}
			for path, content := range files {
				if err := errors.Join(os.MkdirAll(filepath.Dir(n.path(path)), 0o755), os.WriteFile(n.path(path), []byte(content), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			before := names(t, n)
			removed, err := Clean(t.Context(), job.Cluster, job.StateDir, job.ID)
			_, localErr := os.Stat(Dir(job.StateDir, job.ID))
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || c.want != nil && !errors.Is(err, c.want) || len(removed) > 0 || localErr != nil {
					t.Errorf("%v, removed %q, here: %v", err, removed, localErr)
				}
				if after := names(t, n); !slices.Equal(before, after) {
					t.Errorf("left are %q of %q", after, before)
				}
				return
			}
			if err != nil || len(removed) != 3 || !errors.Is(localErr, os.ErrNotExist) {
				t.Errorf("%v, removed %q, here: %v", err, removed, localErr)
			}
			want := slices.DeleteFunc(before, func(p string) bool {
				return p == "/var/lib/drill/a-run" || strings.HasPrefix(p, "/var/lib/drill/a-run/") || strings.HasPrefix(p, "/etc/kubernetes/manifests-moved-by-a-run")
			})
			if after := names(t, n); !slices.Equal(want, after) {
				t.Errorf("left are %q, want %q", after, want)
			}
		})
	}
}

// TestCleanWithoutCluster: of a cluster that is no more only what is here can be removed, whatever became of the run.
func TestCleanWithoutCluster(t *testing.T) {
	job := left(t, Job{})
	if removed, err := Clean(t.Context(), nil, job.StateDir, job.ID); err != nil || !slices.Equal(removed, []string{Dir(job.StateDir, job.ID)}) {
		t.Errorf("%q, %v", removed, err)
	}
	if _, err := Find(job.StateDir, job.ID); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
}
