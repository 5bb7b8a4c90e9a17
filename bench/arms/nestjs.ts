/**
 * NestJS microservices with the kafka transport and a zod pipe, as its manual shows them; decorators are called by hand,
 * because Node strips types and nothing else.
 */
import 'reflect-metadata'
import { Controller, Module, type PipeTransform } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { EventPattern, type MicroserviceOptions, Payload, Transport } from '@nestjs/microservices'
import { counted } from '../counted.ts'
import type { Meter } from '../meter.ts'
import { Order } from '../orders.ts'
import type { ArmResult, Task } from '../task.ts'

class ZodPipe implements PipeTransform<unknown, Order> {
  transform(value: unknown): Order {
    return Order.parse(value)
  }
}

export async function runNestjs(task: Task, meter: Meter): Promise<ArmResult> {
  const { take, done } = counted(task, meter)
  class OrdersController {
    async placed(order: Order): Promise<void> {
      take(order)
    }
  }
  const placed = Object.getOwnPropertyDescriptor(OrdersController.prototype, 'placed') as PropertyDescriptor
  EventPattern(task.topic)(OrdersController.prototype, 'placed', placed)
  Payload(new ZodPipe())(OrdersController.prototype, 'placed', 0)
  Controller()(OrdersController)
  class OrdersModule {}
  Module({ controllers: [OrdersController] })(OrdersModule)
  const nest = await NestFactory.createMicroservice<MicroserviceOptions>(OrdersModule, {
    transport: Transport.KAFKA,
    logger: ['error', 'fatal'],
    options: {
      client: { clientId: 'bench', brokers: [task.servers] },
      consumer: { groupId: `bench-${task.topic}-${process.pid}` },
      subscribe: { fromBeginning: true },
    },
  })
  await nest.listen()
  return done
}
