package rehearsal_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/rehearsal"
)

// A backup is restored, served and read back, and held against what somebody expects of it. The worker is this program itself, which then calls etcd.WorkerMain with inventory.Jobs and apiserver.Jobs.
func ExampleRun() {
	expect, err := rehearsal.ReadExpectations(strings.NewReader(`
objects:
- {apiVersion: apps/v1, kind: Deployment, namespace: shop, name: nginx, fields: {spec.replicas: 2}}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	r := rehearsal.Run(context.Background(), rehearsal.Options{Path: realSnapshot("3.7"), Worker: self(), Expect: expect})
	fmt.Println(r.Verdict == plan.VerdictPassed, r.KeysCompared)
	for _, e := range r.Expectations {
		fmt.Println(e.Name+":", e.Status)
	}
	// Output:
	// true 387
	// Deployment.apps shop/nginx spec.replicas: passed
}
