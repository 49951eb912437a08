package sabotage

import (
	"context"
	"crypto/rand"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// SecretInLog writes what a Secret holds into the API server's log, as a log level that is too high does.
func SecretInLog() Fault {
	// appendLine takes the value as an argument, and the newest log file of the running container.
	const appendLine = `f=$(ls -t /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log | head -n 1) && printf '%s stderr F request body: %s\n' "$(date -u +%FT%T.%NZ)" "$1" >>"$f"`
	var value string
	return Fault{
		Entry:  plan.Entry{Name: "secret-in-log", Summary: "a Secret's data stands in the API server's log"},
		Breaks: []string{"secrets-safe"},
		Insert: func(s *stage.Stage) []Insertion {
			return []Insertion{
				one(s, "deploy-workload", "make-secret", "Make a Secret", func(ctx context.Context, s *stage.Stage) error {
					c, err := client(s)
					if err != nil {
						return err
					}
					value = rand.Text()
					_, err = c.CoreV1().Secrets(metav1.NamespaceDefault).Create(ctx, &corev1.Secret{
						ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"password": value},
					}, metav1.CreateOptions{})
					return err
				}),
				one(s, "", "log-secret", "Write that Secret into the API server's log", func(ctx context.Context, s *stage.Stage) error {
					_, err := cluster.Run(ctx, s.Target.Members[0].Node, "sh", "-c", appendLine, "sh", value)
					return err
				}),
			}
		},
		Undo: func(ctx context.Context, s *stage.Stage) error {
			c, err := client(s)
			if err != nil {
				return err
			}
			return gone(c.CoreV1().Secrets(metav1.NamespaceDefault).Delete(ctx, name, metav1.DeleteOptions{}))
		},
		Harmless: true,
	}
}
