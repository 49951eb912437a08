package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The database is filled with objects as they are in any cluster: the API server caches them, and has to read them all when it starts.
const (
	fillBytes  = 1 << 30
	fillObject = 512 << 10 // of at most 1.5 MiB that etcd takes for a request
	fillers    = 4
	fillLimit  = 10 * time.Minute
)

// fill makes ConfigMaps until the database holds fillBytes of them.
func fill(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	const namespace = "ballast"
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	makers, ctx := errgroup.WithContext(ctx)
	makers.SetLimit(fillers)
	for i := range fillBytes / fillObject {
		makers.Go(func() error {
			data := make([]byte, fillObject)
			_, _ = rand.Read(data)
			_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("ballast-%04d", i)}, BinaryData: map[string][]byte{"ballast": data},
			}, metav1.CreateOptions{})
			return err
		})
	}
	if err := makers.Wait(); err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	return nil
}
