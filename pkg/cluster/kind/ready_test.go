package kind

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func k8sNode(name string, controlPlane bool, ready corev1.ConditionStatus, taints ...corev1.Taint) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if controlPlane {
		n.Labels[controlPlaneLabel] = ""
	}
	n.Spec.Taints = taints
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "KubeletNotReady", Message: "no CNI"}}
	return n
}

func TestNodesMissing(t *testing.T) {
	mine := corev1.Taint{Key: controlPlaneLabel, Effect: corev1.TaintEffectNoSchedule}
	young := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}
	soft := corev1.Taint{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	one, pair := shape{controlPlanes: 1}, shape{controlPlanes: 1, workers: 1}
	for _, test := range []struct {
		name  string
		shape shape
		nodes []corev1.Node
		want  string // a part of the answer; empty when nothing is missing
	}{
		{"nobody", one, nil, "0 of 1"},
		{"one of two", pair, []corev1.Node{k8sNode("c", true, yes)}, "1 of 2"},
		{"ready", one, []corev1.Node{k8sNode("c", true, yes, soft)}, ""},
		{"not ready", one, []corev1.Node{k8sNode("c", true, no)}, "c: KubeletNotReady no CNI"},
		{"no condition", one, []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "c"}}}, "no Ready condition"},
		{"a control plane that takes nothing", one, []corev1.Node{k8sNode("c", true, yes, mine)}, "c: tainted"},
		{"a worker besides", pair, []corev1.Node{k8sNode("c", true, yes, mine), k8sNode("w", false, yes)}, ""},
		{"a worker that is not done", pair, []corev1.Node{k8sNode("c", true, yes, mine), k8sNode("w", false, yes, young)}, "w: tainted"},
	} {
		got := nodesMissing(test.nodes, test.shape)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestDeploymentMissing(t *testing.T) {
	d := &appsv1.Deployment{}
	if deploymentMissing(d) == "" {
		t.Error("a Deployment without conditions is available")
	}
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}
	if got := deploymentMissing(d); got != "" {
		t.Error(got)
	}
	d.Generation = 2
	if deploymentMissing(d) == "" {
		t.Error("the condition is that of an older generation")
	}
	d.Generation = 0
	d.Status.Conditions[0].Status = corev1.ConditionFalse
	if deploymentMissing(d) == "" {
		t.Error("an unavailable Deployment is available")
	}
}
