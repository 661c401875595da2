# SPDX-License-Identifier: Apache-2.0
"""The calendar of the time fence: what hours mean, and when they change.  Pure; zones come in read.

Instants are whole seconds since 1970, UTC.  Days are numbered like datetime.date.toordinal() does, and go on
beyond the year 9999.  A local reading is one number: day * 86400 + second of that day.
"""
