package controlplane_test

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/controlplane"
)

const (
	runDir   = "/var/lib/drill/20261123-080000-abcd"
	manifest = "/etc/kubernetes/manifests/etcd.yaml"
)

// usersNode answers what Users asks of a node on which nobody uses the folder, but for what is given: the answers to commands that begin so.
func usersNode(t *testing.T, answers map[string]string) *scripted {
	t.Helper()
	b, err := os.ReadFile("testdata/etcd-v1.37.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := newScripted(t, func(argv string) (string, int) {
		for begin, answer := range answers {
			if strings.HasPrefix(argv, begin) {
				return answer, 0
			}
		}
		switch {
		case strings.HasPrefix(argv, "readlink -m -- "):
			return strings.TrimPrefix(argv, "readlink -m -- "), 0
		case strings.HasPrefix(argv, "crictl ps"):
			return `{"containers":[]}`, 0
		case strings.HasPrefix(argv, "sh -c "):
			return "77\n/proc/77/fd/3 " + runDir, 0
		}
		return "", 0
	})
	n.files[manifest] = b
	return n
}

func TestUsers(t *testing.T) {
	for name, c := range map[string]struct {
		answers map[string]string
		want    []string
	}{
		"nobody":                     {nil, nil},
		"a manifest names it":        {map[string]string{"find ": manifest + "\n"}, []string{"the manifest " + manifest + " names it"}},
		"etcd's data lies there":     {map[string]string{"readlink -m -- /var/lib/etcd": runDir + "/etcd"}, []string{"etcd's data directory /var/lib/etcd lies there, says its manifest"}},
		"etcd's data lies beside it": {map[string]string{"readlink -m -- /var/lib/etcd": runDir + "-other/etcd"}, nil},
		"a container has it mounted": {map[string]string{
			"crictl ps": `{"containers":[{"id":"a","metadata":{"name":"etcd"},"createdAt":"1","labels":{"io.kubernetes.pod.name":"etcd-cp-a","io.kubernetes.pod.namespace":"kube-system"}},` +
				`{"id":"b","metadata":{"name":"etcd"},"createdAt":"1"},{"id":"c","metadata":{"name":"proxy"},"createdAt":"1"}]}`,
			"crictl inspect": `[{"status":{"id":"a","state":"CONTAINER_CREATED","mounts":[{"hostPath":"` + runDir + `/etcd/"}]}},` +
				`{"status":{"id":"b","state":"CONTAINER_EXITED","mounts":[{"hostPath":"` + runDir + `/etcd"}]}},{"status":{"id":"c","state":"CONTAINER_RUNNING","mounts":[{"hostPath":"/var/lib"}]}}]`,
		}, []string{"container etcd of pod kube-system/etcd-cp-a has " + runDir + "/etcd mounted"}},
		"processes have it": {map[string]string{
			"sh -c ": "77\n/proc/9/mountinfo:588 577 259:1 /volumes/1/_data/lib/drill/20261123-080000-abcd/etcd /var/lib/etcd rw - ext4 /dev/vda rw\n" +
				"/proc/77/fd/3 " + runDir + "\n/proc/8/fd/4 /data/20261123-080000-abcd/etcd/member/snap/db\n/proc/7/cwd /home/me/runs/20261123-080000-abcd/x",
		}, []string{
			"process 8 has open /data/20261123-080000-abcd/etcd/member/snap/db",
			"process 9 has /volumes/1/_data/lib/drill/20261123-080000-abcd/etcd mounted at /var/lib/etcd",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := controlplane.Users(t.Context(), usersNode(t, c.answers), runDir, "/home/me/runs/20261123-080000-abcd")
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestUsersUnknown: what can't be told is not that there is nobody.
func TestUsersUnknown(t *testing.T) {
	n := usersNode(t, map[string]string{"sh -c ": "77"})
	if got, err := controlplane.Users(t.Context(), n, runDir, "/none"); err == nil || !strings.Contains(err.Error(), "can't be seen") {
		t.Errorf("%q, %v", got, err)
	}
	n = usersNode(t, nil)
	delete(n.files, manifest)
	if got, err := controlplane.Users(t.Context(), n, runDir, "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q, %v", got, err)
	}
	for _, program := range []string{"find", "readlink", "crictl", "sh"} {
		n := usersNode(t, nil)
		answer := n.answer
		n.answer = func(argv string) (string, int) {
			if strings.HasPrefix(argv, program) {
				return "", 1
			}
			return answer(argv)
		}
		if got, err := controlplane.Users(t.Context(), n, runDir, "/none"); err == nil || !strings.Contains(err.Error(), "looking what uses "+runDir) {
			t.Errorf("without %s: %q, %v", program, got, err)
		}
	}
}
