/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that are never right here become compile errors (the idea is git's banned.h). */
#pragma once

#define STAYD_BANNED(f) sorry_##f##_is_banned_use_base_h

#undef strcpy
#define strcpy(...) STAYD_BANNED(strcpy)
#undef strcat
#define strcat(...) STAYD_BANNED(strcat)
#undef strncpy
#define strncpy(...) STAYD_BANNED(strncpy)
#undef strncat
#define strncat(...) STAYD_BANNED(strncat)
#undef sprintf
#define sprintf(...) STAYD_BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) STAYD_BANNED(vsprintf)
#undef strtok
#define strtok(...) STAYD_BANNED(strtok)
#undef atoi
#define atoi(...) STAYD_BANNED(atoi)
#undef gets
#define gets(...) STAYD_BANNED(gets)
#undef ctime
#define ctime(...) STAYD_BANNED(ctime)
#undef asctime
#define asctime(...) STAYD_BANNED(asctime)
#undef alloca
#define alloca(...) STAYD_BANNED(alloca)
