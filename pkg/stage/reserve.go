package stage

import (
	"context"
	"fmt"
	"path"
	"strconv"

	"github.com/etcd-drill/drill/pkg/cluster"
	"github.com/etcd-drill/drill/pkg/controlplane"
)

// ReservedFile is the file on each node, beside the run's data directories, that takes the room of a rollback's data directory until there is one: a disk that fills up in the outage must not keep
// the old state from coming back.
const ReservedFile = "reserved"

func (s *Stage) reserved() string { return path.Join(path.Dir(s.Target.RollbackDir), ReservedFile) }

// reserve takes that room on the member's node. Where the file is there already, it is made as long as it needs to be now.
func (s *Stage) reserve(ctx context.Context, m controlplane.Member) error {
	database, err := databaseSize(ctx, m.Node, m.Etcd.HostDataDir)
	if err != nil {
		return fmt.Errorf("how much room a rollback needs: %w", err)
	}
	// Where the file system has no call for it, --posix has every block written.
	if _, err := cluster.Run(ctx, m.Node, "fallocate", "--posix", "--length", strconv.FormatInt(database+walBytes, 10), s.reserved()); err != nil {
		return fmt.Errorf("keeping %s for a rollback: %w; hint: %s", mebibytes(database+walBytes), err, makeRoom)
	}
	return nil
}

// Unreserve gives back the room that was kept for a rollback on every control plane. It may be called again, and where none was taken.
func (s *Stage) Unreserve(ctx context.Context) error {
	return controlplane.Each(ctx, s.Target.Members, func(ctx context.Context, m controlplane.Member) error {
		if _, err := cluster.Run(ctx, m.Node, "rm", "-f", "--", s.reserved()); err != nil {
			return fmt.Errorf("giving back the room that was kept for a rollback: %w", err)
		}
		return nil
	})
}
