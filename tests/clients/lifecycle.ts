// A call through its life with openapi-fetch, typed by what openapi-typescript makes of the contract.
// What the contract does not say, tsc does not let pass.
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

type VideoCall = components['schemas']['VideoCall']
type Refusal = components['schemas']['Error']

// Given by run.py, which knows neither Node.js' types nor anything of this file.
declare const process: { env: Record<'BASE_URL' | 'DOCTOR' | 'DOCTOR_TOKEN' | 'PATIENT' | 'PATIENT_TOKEN', string> }
const { BASE_URL, DOCTOR_TOKEN, PATIENT_TOKEN } = process.env
const people: Pick<VideoCall, 'doctor' | 'patient'> = {
  doctor: JSON.parse(process.env.DOCTOR),
  patient: JSON.parse(process.env.PATIENT),
}

const clientOf = (token: string) =>
  createClient<paths>({ baseUrl: BASE_URL, headers: { Authorization: `Bearer ${token}` } })
const doctor = clientOf(DOCTOR_TOKEN)
const patient = clientOf(PATIENT_TOKEN)

function same<T>(found: T, wanted: T): void {
  if (found !== wanted) throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(wanted)}`)
}

function done<T>({ data, error }: { data?: T; error?: Refusal }): T {
  if (data === undefined) throw new Error(`refused: ${error?.error}`)
  return data
}

const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString()
const book = (minutes: number) =>
  doctor.POST('/video-calls/', { body: { ...people, scheduled_time: inMinutes(minutes) } })
const at = (call: VideoCall) => ({ params: { path: { id: call.id } } })

const call = done(await book(10))
same(call.status, 'scheduled')
same(call.doctor_details.user.email, 'doctor@example.com')
same(call.started_at, null)
same(call.doctor, people.doctor)

const found = done(await patient.GET('/video-calls/{id}/', at(call)))
same(found.channel_name, call.channel_name)
const page = done(await patient.GET('/video-calls/', { params: { query: { page: 1, page_size: 5 } } }))
same(page.results.map((each) => each.id).join(), String(call.id))
same(page.next, null)

const taken = await book(20)
same(taken.response.status, 400)
same(taken.error?.error, 'There is already a scheduled call within 30 minutes of this time')
same(taken.error?.code, 'create.no-overlap')

const credentials = done(await doctor.POST('/video-calls/{id}/join/', at(call)))
same(credentials.channel_name, call.channel_name)
same(done(await patient.POST('/video-calls/{id}/join/', at(call))).uid === credentials.uid, false)
same(done(await doctor.POST('/video-calls/{id}/end/', at(call))).status, 'completed')

const later = done(await book(60))
same(done(await patient.POST('/video-calls/{id}/cancel/', at(later))).status, 'cancelled')
const gone = await patient.POST('/video-calls/{id}/join/', at(later))
same(gone.response.status, 400)
same(gone.error?.code, 'join.not-cancelled')

const anonymous = await clientOf('no-token').GET('/video-calls/')
same(anonymous.response.status, 401)
