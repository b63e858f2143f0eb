// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// From go.bytecodealliance.org/pkg v0.2.1, wit/types/unit.go; modified: these lines were added.

package wit_types

type Unit struct{}
