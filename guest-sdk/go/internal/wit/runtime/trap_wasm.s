#include "textflag.h"

TEXT ·Trap(SB), NOSPLIT, $0
	UNDEF
