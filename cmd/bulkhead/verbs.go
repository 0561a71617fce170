package main

import "github.com/spf13/cobra"

// verbs are the commands, in the order in which help shows them.
var verbs = []func(*app) *cobra.Command{
	newTenant,
	newFunction,
	newToken,
	newInvoke,
	newRun,
	newLogs,
	newStatus,
	newHost,
	newRollout,
	newAudit,
	newImage,
	newUp,
	newDown,
	newProxy,
	newEtcd,
	newScheduler,
	newAgent,
	newEnded,
	newCluster,
	newSecrets,
	newButane,
	newPKI,
}
