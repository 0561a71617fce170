package sets

import "context"

func (k *Keeper) tidy(ctx context.Context, notify func()) {}
