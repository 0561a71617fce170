package main

import "github.com/spf13/cobra"

// verbs are the commands, in the order in which help shows them.
var verbs = []func(*app) *cobra.Command{
	newTenant,
	newFunction,
	newModules,
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
	newBuilder,
	newAgent,
	newEnded,
	newCluster,
	newSecrets,
	newButane,
	newPKI,
}
