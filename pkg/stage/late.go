package stage

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/etcd-drill/drill/pkg/plan"
)

// lateLabel marks what LateWrites makes, with the run's name as its value.
const lateLabel = "drill-late-write"

// MaxLateWrites is the largest number of late writes of a run: as many as a restore is to lose while somebody waits.
const MaxLateWrites = 1000

// LateWrites makes as many ConfigMaps as was asked for between the snapshot and the break; no step where that is none. They are what the restore
// must lose, and what the report must name, each of them and nothing else.
func (s *Stage) LateWrites() []plan.Step {
	if s.opt.LateWrites == 0 {
		return nil
	}
	return []plan.Step{{
		Name:  "late-writes",
		Phase: plan.Protect,
		Title: fmt.Sprintf("Write %d ConfigMaps that the snapshot doesn't hold", s.opt.LateWrites),
		Why:   "What is written after the snapshot is what a restore costs. To see whether all of it is named afterwards, and nothing else, there must be something.",
		Do:    s.lateWrites,
	}}
}

func (s *Stage) lateWrites(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	for i := range s.opt.LateWrites {
		_, err := client.CoreV1().ConfigMaps(workloadNamespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: lateName(i), Labels: map[string]string{lateLabel: s.opt.RunID}},
			Data:       map[string]string{"written": "after the snapshot"},
		}, metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil && !s.madeBefore(err) {
			return fmt.Errorf("late write %d of %d: %w", i+1, s.opt.LateWrites, err)
		}
	}
	return nil
}

func lateName(i int) string { return fmt.Sprintf("drill-late-%04d", i+1) }

// sweepLate deletes the late writes, which are still there where the restore never happened or was undone.
func (s *Stage) sweepLate(ctx context.Context, client kubernetes.Interface) error {
	if s.opt.LateWrites == 0 {
		return nil
	}
	return client.CoreV1().ConfigMaps(workloadNamespace).DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: lateLabel + "=" + s.opt.RunID})
}
