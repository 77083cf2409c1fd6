// SPDX-License-Identifier: LGPL-2.1-or-later
/* A shared object, but no policy. */
extern int just_a_number;
int just_a_number = 1;
