package procedure_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/procedure"
)

// TestShortcuts: the matrix as a person would write it down.
func TestShortcuts(t *testing.T) {
	const want = `
kubelet-stop bump keeping [] renewing []
kubelet-stop bump keeping [kube-apiserver] renewing []
kubelet-stop bump keeping [kube-controller-manager] renewing []
kubelet-stop bump keeping [kube-scheduler] renewing []
kubelet-stop bump keeping [kubelet] renewing []
kubelet-stop no bump keeping [] renewing []
kubelet-stop no bump keeping [kube-apiserver] renewing []
kubelet-stop no bump keeping [kube-controller-manager] renewing []
kubelet-stop no bump keeping [kube-scheduler] renewing []
kubelet-stop no bump keeping [kubelet] renewing []
manifest-move bump keeping [] renewing []
manifest-move bump keeping [kube-apiserver] renewing []
manifest-move bump keeping [kube-controller-manager] renewing []
manifest-move bump keeping [kube-scheduler] renewing []
manifest-move bump keeping [kubelet] renewing []
manifest-move no bump keeping [] renewing []
manifest-move no bump keeping [kube-apiserver] renewing []
manifest-move no bump keeping [kube-controller-manager] renewing []
manifest-move no bump keeping [kube-scheduler] renewing []
manifest-move no bump keeping [kubelet] renewing []
manifest-edit bump keeping [] renewing []
manifest-edit bump keeping [] renewing [kube-apiserver kube-controller-manager kube-scheduler kubelet]
manifest-edit bump keeping [] renewing [kube-controller-manager kube-scheduler kubelet]
manifest-edit bump keeping [] renewing [kube-apiserver kube-scheduler kubelet]
manifest-edit bump keeping [] renewing [kube-apiserver kube-controller-manager kubelet]
manifest-edit bump keeping [] renewing [kube-apiserver kube-controller-manager kube-scheduler]
manifest-edit no bump keeping [] renewing []
manifest-edit no bump keeping [] renewing [kube-apiserver kube-controller-manager kube-scheduler kubelet]
manifest-edit no bump keeping [] renewing [kube-controller-manager kube-scheduler kubelet]
manifest-edit no bump keeping [] renewing [kube-apiserver kube-scheduler kubelet]
manifest-edit no bump keeping [] renewing [kube-apiserver kube-controller-manager kubelet]
manifest-edit no bump keeping [] renewing [kube-apiserver kube-controller-manager kube-scheduler]
`
	var got strings.Builder
	seen := map[string]bool{}
	for _, v := range procedure.Shortcuts(procedure.All()) {
		if err := v.Procedure.Check(v.Keep, v.Renew); err != nil {
			t.Error(err)
		}
		bump := "no bump"
		if v.Bump {
			bump = "bump"
		}
		line := fmt.Sprintf("%s %s keeping %v renewing %v\n", v.Procedure.Name, bump, v.Keep, v.Renew)
		if seen[line] {
			t.Errorf("twice: %s", line)
		}
		seen[line] = true
		got.WriteString(line)
	}
	if got.String() != strings.TrimPrefix(want, "\n") {
		t.Errorf("got\n%s", got.String())
	}
}
