package procedure_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcd-drill/drill/pkg/controlplane"
	"github.com/etcd-drill/drill/pkg/engine"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/procedure"
	"github.com/etcd-drill/drill/pkg/stage"
	"github.com/etcd-drill/drill/scenarios"
)

// TestWishesThatMakeNoSense are told before anything is touched.
func TestWishesThatMakeNoSense(t *testing.T) {
	for name, c := range map[string]struct {
		procedure   procedure.Procedure
		keep, renew []string
		want        string
	}{
		"keep what isn't there":        {procedure.KubeletStop(), []string{"kubelt"}, nil, `there is no component "kubelt"; there are: kube-apiserver, kube-controller-manager, kube-scheduler, kubelet`},
		"renew what isn't there":       {procedure.ManifestEdit(), nil, []string{""}, `there is no component ""`},
		"keep etcd":                    {procedure.KubeletStop(), []string{"etcd"}, nil, "etcd always begins anew"},
		"keep what is kept anyway":     {procedure.ManifestEdit(), []string{"kubelet"}, nil, "kubelet lives on anyway: procedure manifest-edit does not renew it"},
		"renew what is renewed anyway": {procedure.ManifestMove(), nil, []string{"kubelet"}, "kubelet begins anew anyway: procedure manifest-move renews it"},
		"both":                         {procedure.KubeletStop(), []string{"kubelet"}, []string{"kubelet"}, "begins anew anyway"},
		"twice":                        {procedure.KubeletStop(), []string{"kubelet", "kubelet"}, nil, "kubelet is named twice"},
	} {
		if err := c.procedure.Check(c.keep, c.renew); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestVariants: each is a plan that can be walked; its words and commands say nothing of restarting what lives on, and leave nothing out that begins anew.
func TestVariants(t *testing.T) {
	sc := scenarios.DeploymentLoss()
	everyVariant(func(where string, p procedure.Procedure, keep, renew []string) {
		s := stage.Textbook("drill-control-plane", p, "")
		s.Target.KeepRunning, s.Target.Renew = keep, renew
		whole := scenarios.Plan(sc, p, s)
		if err := engine.Validate(whole); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		v := whole.Variant
		if both := slices.Sorted(slices.Values(slices.Concat(v.KeptRunning, v.Renewed))); !slices.Equal(both, procedure.Components()) {
			t.Errorf("%s: kept %v, renewed %v", where, v.KeptRunning, v.Renewed)
		}
		same := p.Variant(s.Target.BumpRevision, keep, renew)
		if same.BumpRevision != v.BumpRevision || !slices.Equal(same.Renewed, v.Renewed) || !slices.Equal(same.KeptRunning, v.KeptRunning) {
			t.Errorf("%s: %+v is announced, and %+v planned", where, same, v)
		}
		ends := endedBy(p.Build(s.Target).Steps)
		for _, c := range procedure.Components() {
			if want := slices.Contains(v.Renewed, c); slices.Contains(ends, c) != want {
				t.Errorf("%s: %s is to be renewed: %v; what the commands end: %v", where, c, want, ends)
			}
		}
	})
}

// endedBy says which components the commands of the steps end: by name in a list that is piped on, by their manifest, or as a service.
func endedBy(steps []plan.Step) (names []string) {
	for _, s := range steps {
		for _, c := range s.Commands {
			line := c.String()
			switch {
			case strings.Contains(line, "systemctl stop kubelet"), strings.Contains(line, "systemctl restart kubelet"):
				names = append(names, procedure.Kubelet)
			case slices.Contains(c.PipeTo, "stop"), c.Argv[0] == "mv" && slices.Contains(c.Argv, "--backup=numbered"):
				for _, n := range controlplane.Components() {
					if strings.Contains(line, n) {
						names = append(names, n)
					}
				}
			}
		}
	}
	return names
}

// TestLeases: only the Lease of who begins anew is removed; another's holder is alive.
func TestLeases(t *testing.T) {
	for _, c := range []struct {
		keep, want []string
	}{
		{nil, []string{"kube-controller-manager", "kube-scheduler"}},
		{[]string{"kube-scheduler"}, []string{"kube-controller-manager"}},
		{[]string{"kube-controller-manager", "kubelet"}, []string{"kube-scheduler"}},
		{[]string{"kube-controller-manager", "kube-scheduler"}, nil},
	} {
		target := three()
		target.KeepRunning = c.keep
		var got []string
		for _, s := range procedure.KubeletStop().Build(target).Steps {
			if s.Name == "release-leases" {
				got = s.Commands[0].Argv[6:]
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("keeping %v, the Leases of %v are removed, want %v", c.keep, got, c.want)
		}
	}
}
